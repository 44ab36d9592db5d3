//! The committed manuals, completions and causes are those of the tools, and shells and readers of manuals
//! take them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[test]
fn committed_files_are_what_the_definitions_give() {
    for (name, text) in xtask::dist() {
        let committed = fs::read_to_string(xtask::workspace().join(&name)).unwrap_or_default();
        assert!(committed == text, "{} is not what cargo xtask dist makes; run it and commit", name.display());
    }
}

#[test]
fn nothing_else_is_among_the_generated_files() {
    let made: BTreeSet<PathBuf> =
        xtask::dist().into_iter().map(|(name, _)| name).filter(|name| !name.starts_with("docs")).collect();
    let mut found = BTreeSet::new();
    for dir in ["man", "completions/bash", "completions/zsh", "completions/fish"] {
        let files = fs::read_dir(xtask::workspace().join(dir)).expect(dir);
        found.extend(files.map(|file| Path::new(dir).join(file.expect(dir).file_name())));
    }
    assert_eq!(found, made);
}

#[test]
fn every_manual_has_the_sections_that_a_reader_looks_for() {
    for (name, page) in manuals() {
        let headings: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
        let at = |heading: &str| {
            let position = headings.iter().position(|h| h.trim_matches('"') == heading);
            position.unwrap_or_else(|| panic!("{}: no {heading} in {headings:?}", name.display()))
        };
        let places = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"].map(at);
        assert!(places.is_sorted(), "{}: {headings:?}", name.display());
        assert!(headings.iter().any(|h| h.starts_with("\"DIFFERENCES FROM ")), "{}: {headings:?}", name.display());
    }
}

#[test]
fn groff_has_nothing_to_warn_of() {
    if !have("groff") {
        return eprintln!("skipped: groff is not installed");
    }
    for (name, _) in manuals() {
        let file = xtask::workspace().join(&name);
        let output = Command::new("groff").args(["-man", "-Tutf8", "-ww", "-z"]).arg(file).output().expect("groff");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{}", name.display());
    }
}

#[test]
fn every_help_and_every_manual_fits_80_columns() {
    let is_wide = |line: &&str| line.chars().count() > 80;
    for (mut command, _) in xtask::tools() {
        for help in [command.render_help(), command.render_long_help()] {
            let help = help.to_string();
            assert_eq!(help.lines().filter(is_wide).collect::<Vec<_>>(), [""; 0], "{}", command.get_name());
        }
    }
    if !have("groff") {
        return eprintln!("skipped: groff is not installed");
    }
    for (name, _) in manuals() {
        // As man(1) calls it on a terminal of 80 columns.
        let mut groff = Command::new("groff");
        groff.args(["-man", "-Tutf8", "-rLL=78n", "-P-c", "-P-bou"]).arg(xtask::workspace().join(&name));
        let page = String::from_utf8(groff.output().expect("groff").stdout).expect("text");
        assert!(page.lines().count() > 100, "{}: {page}", name.display());
        assert_eq!(page.lines().filter(is_wide).collect::<Vec<_>>(), [""; 0], "{}", name.display());
    }
}

#[test]
fn common_options_come_first_in_every_help() {
    for (tool, common) in [
        ("unpack", "replace ref platform owner quiet explain verbose"),
        ("isolate", "mount uts ipc net pid user cgroup time all hostname map-root map-auto explain verbose"),
        ("pivot", "read-only ephemeral overlay bind dev etc as-image env chdir explain verbose"),
        ("mountclean", "keep-mount keep-fd proc-opts proc mask sys explain verbose"),
    ] {
        let (mut command, _) = xtask::tools().into_iter().find(|(command, _)| command.get_name() == tool).expect(tool);
        let help = command.render_help().to_string();
        let first = help.split("\nOptions:\n").nth(1).expect("Options").split("\n\n").next().unwrap_or_default();
        let names = first.split("--").skip(1).filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
        let names: Vec<&str> = names.filter_map(|rest| rest.split([' ', '[', '\n']).next()).collect();
        let position = |name| names.iter().position(|&other| other == name);
        let places: Vec<_> = common.split(' ').map(|name| position(name).expect(name)).collect();
        assert!(places.is_sorted(), "{tool}: {names:?}");
    }
}

#[test]
fn after_two_dashes_bash_completes_the_next_link() {
    let bash_completion = "/usr/share/bash-completion/bash_completion";
    if !Path::new(bash_completion).exists() {
        return eprintln!("skipped: bash-completion is not installed");
    }
    // As readline calls it: the command, the word to complete, the word before it. compopt works only there.
    let script = r#"
        . /usr/share/bash-completion/bash_completion; compopt() { :; }
        for tool in unpack isolate pivot mountclean; do . "completions/bash/$tool"; done
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
        "_$1" "$1" "${@: -1}" "${@: -2:1}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    completes(&["bash", "-c", script, "bash"], &|words| words.split(' ').map(str::to_owned).collect());
}

#[test]
fn after_two_dashes_fish_completes_the_next_link() {
    if !have("fish") {
        return eprintln!("skipped: fish is not installed");
    }
    let script = "for tool in unpack isolate pivot mountclean; source completions/fish/$tool.fish; end; complete -C $argv[1] | cut -f 1";
    completes(&["fish", "--no-config", "-c", script], &|words| vec![words.to_owned()]);
}

#[test]
fn after_two_dashes_zsh_completes_the_next_link() {
    if !have("zsh") {
        return eprintln!("skipped: zsh is not installed");
    }
    // Only its line editor completes: a shell at a terminal of its own, and a key that prints what the line has become.
    let script = r#"
        zmodload zsh/zpty
        zpty -b shell zsh -f -i
        zpty -w shell 'TERM=dumb; fpath=($PWD/completions/zsh $fpath); autoload -Uz compinit; compinit -u -D
            show() { print -r -- "is<$BUFFER>" }; zle -N show; bindkey "^T" show; bindkey "^I" complete-word; print rea""dy'
        zpty -r shell out '*ready*'
        zpty -w -n shell "$*"$'\t\x14'
        zpty -r shell out '*is<*>*'
        line=${${${out##*is<}%%>*}%[ =]}
        print -r -- ${line##* }
        zpty -d shell"#;
    completes(&["timeout", "--foreground", "60", "zsh", "-f", "-c", script, "zsh"], &|words| {
        words.split(' ').map(str::to_owned).collect()
    });
}

#[track_caller]
fn completes(shell: &[&str], words: &dyn Fn(&str) -> Vec<String>) {
    for (line, expected) in [
        ("isolate --hostn", "--hostname"),
        ("unpack --inspe", "--inspect"),
        ("unpack --format ro", "rootfs"),
        ("isolate --pid -- pivot --read", "--read-only"),
        ("isolate --pid -- pivot ./root -- mountclean --keep-m", "--keep-mount"),
        ("unpack img.tar -- isolate --map-r", "--map-root"),
    ] {
        let output = Command::new(shell[0])
            .args(&shell[1..])
            .args(words(line))
            .current_dir(xtask::workspace())
            .env("HOME", "/nonexistent")
            .stdin(Stdio::null())
            .output()
            .expect("shell");
        let offered = String::from_utf8_lossy(&output.stdout);
        assert!(
            offered.lines().any(|word| word == expected),
            "{line}: {offered}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(offered.lines().count() <= 3, "{line} completes to more than its own: {offered}");
    }
}

fn manuals() -> Vec<(PathBuf, String)> {
    xtask::dist().into_iter().filter(|(name, _)| name.starts_with("man")).collect()
}

fn have(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}
