//! Completions for bash, zsh and fish. After `--` the shell completes the next link as a command of
//! its own, with its own options.

use std::path::PathBuf;

use clap::{Command, ValueHint};
use clap_complete::{Shell, generate};

pub fn files(command: &Command) -> Vec<(PathBuf, String)> {
    let name = command.get_name().to_owned();
    // clap_complete would offer hidden options as well.
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set()).cloned();
    let bare = Command::new(&*name.clone().leak()).version("of any number");
    let command = bare.args(shown).mut_args(|arg| match arg.get_id().as_str() {
        "command" => arg.trailing_var_arg(true).last(false).value_hint(ValueHint::CommandWithArguments),
        _ => arg,
    });
    let script = |shell| {
        let mut out = Vec::new();
        generate(shell, &mut command.clone(), &name, &mut out);
        String::from_utf8(out).expect("a completion is text")
    };
    vec![
        (format!("completions/bash/{name}").into(), bash(script(Shell::Bash))),
        (format!("completions/zsh/_{name}").into(), zsh(script(Shell::Zsh))),
        (format!("completions/fish/{name}.fish").into(), fish(&command, &script(Shell::Fish))),
    ]
}

/// clap_complete would offer this tool's options to the command after `--`.
fn bash(script: String) -> String {
    let begin = "    local i cur prev opts cmd\n";
    let next_link = "    for ((i = 1; i < COMP_CWORD; i++)); do
        if [[ ${COMP_WORDS[i]} == -- ]]; then
            declare -F _command_offset >/dev/null && _command_offset $((i + 1))
            return
        fi
    done
";
    assert!(script.contains(begin), "clap_complete has changed: {script}");
    script.replacen(begin, &format!("{begin}{next_link}"), 1)
}

/// The same; `_arguments` would not look behind options that it does not know.
fn zsh(script: String) -> String {
    let begin = "    local ret=1\n";
    let next_link = "    local -i dashes=${words[(i)--]}
    if (( dashes < CURRENT )); then
        shift $dashes words
        (( CURRENT -= dashes ))
        _normal
        return
    fi
";
    assert!(script.contains(begin), "clap_complete has changed: {script}");
    script.replacen(begin, &format!("{begin}{next_link}"), 1)
}

/// clap_complete takes the word after an option with an optional `=VALUE` for its value, and knows no
/// completion for operands.
fn fish(command: &Command, script: &str) -> String {
    let name = command.get_name();
    let optional: Vec<String> = command
        .get_arguments()
        .filter(|arg| arg.is_require_equals_set() && arg.get_num_args().is_some_and(|n| n.min_values() == 0))
        .filter_map(|arg| Some(format!(" -l {} ", arg.get_long()?)))
        .collect();
    let mut out = String::new();
    for line in script.lines() {
        let bare = optional.iter().any(|long| line.contains(long.as_str()));
        out.push_str(if bare { line.trim_end_matches(" -F").trim_end_matches(" -r") } else { line });
        out.push('\n');
    }
    out.push_str(&format!(
        "complete -c {name} -n 'contains -- -- (commandline -opc)' -x -a '(set -l words (commandline -opc) (commandline -ct); set -l next (math 1 + (contains -i -- -- $words)); complete -C (string join -- \" \" $words[$next..-1]))'\n"
    ));
    out
}
