//! A name that was chosen by somebody else reaches no terminal as anything but text: no C0 or C1 control, DEL or
//! bidirectional control in what a tool prints, as an error, as a script or as an answer.

use chainroot_tests::{Work, busybox_image};

/// Colours the terminal, ends that by a C1 control, deletes, and turns the direction of what follows.
const NAME: &str = "a\x1b[31mb\u{9b}c\x7fd\u{202e}e";

fn is_control(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

#[test]
fn no_name_controls_a_terminal_whatever_prints_it() {
    let work = Work::new();
    work.sh(&format!("unpack --quiet '{}' >/dev/null", busybox_image().display())).expect(0, "");
    std::fs::create_dir(work.join(NAME)).expect("mkdir");
    let lines: &[&[&str]] = &[
        &["unpack", "--explain", NAME, "NAME/x"],
        &["unpack", "NAME.tar", "r"],
        &["unpack", "--inspect", NAME],
        &["unpack", "--platform", NAME, "x"],
        &["unpack", "--limit", NAME, "x"],
        &["unpack", "--NAME"],
        &["isolate", "--explain", "--hostname", NAME, "--", NAME],
        &["isolate", "USER", "--pid", "--", NAME],
        &["isolate", "--seccomp", NAME, "--", "true"],
        &["isolate", "--net=NAME", "true"],
        &["isolate", "--join", NAME, "true"],
        &["isolate", "--rlimit", NAME, "true"],
        &["isolate", "--map-users", NAME, "true"],
        &["isolate", "--NAME"],
        &["pivot", "--explain", "--bind", "NAME:/x", NAME, "--", NAME],
        &["pivot", "--explain", "--env", "NAME=1", "--chdir", NAME, "root", "true"],
        &["pivot", "NAME/none", "true"],
        &["pivot", "--tmpfs", "/x:NAME", "root", "true"],
        &["pivot", "--NAME"],
        &["isolate", "USER", "--pid", "--verbose", "--", "pivot", "--verbose", "--bind", NAME, "root", "--", NAME],
        &["isolate", "USER", "--pid", "--", "pivot", "--chdir", "none/NAME", "root", "--", "true"],
        &["mountclean", "--explain", "--keep-mount", "/NAME", "--", NAME],
        &["mountclean", "--proc-opts", NAME, "--", "true"],
        &["mountclean", "--NAME"],
    ];
    for words in lines {
        let words: Vec<String> = words.iter().map(|word| word.replace("NAME", NAME)).collect();
        let mut command = work.command(&words[0]);
        for word in &words[1..] {
            match word.as_str() {
                "USER" => command.args(work.user().split_whitespace()),
                word => command.arg(word),
            };
        }
        let outcome = work.output(command, b"");
        let printed = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(!printed.is_empty(), "{words:?} prints nothing");
        assert!(!printed.contains(is_control), "{words:?}: {printed:?}");
    }
}
