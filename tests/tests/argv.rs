//! Any arguments at all: a plan, or one line that says why not. Nothing is performed (`--explain`).
//!
//! Some thousands of argument lists by default; ten times as many with `CHAINROOT_ARGV=all`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use chainroot_tests::Work;

/// xorshift64*: the same lists every time, so that a failure can be had again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }
}

/// Values that some parser stumbles over.
const VALUES: &[&str] = &[
    "",
    "-",
    "--",
    "0",
    "1",
    "-1",
    "18446744073709551615",
    "18446744073709551616",
    "4294967296",
    "2147483648",
    "1e9",
    "0x10",
    "1:2:3",
    ":::",
    "0:0:4294967295",
    "inner:outer:0",
    "a,b,c",
    ",",
    "=",
    "a=b",
    "=b",
    "net=/proc/self/ns/net",
    "/",
    "//",
    "..",
    "/proc/self/ns/uts",
    "/dev/null",
    "/nonexistent",
    "/etc:/x:ro,rw",
    "::ro",
    "/a:b",
    "/a:/b:size=",
    "64M",
    "64Q",
    "999999999999G",
    "0.5",
    "nan",
    "inf",
    "1e400",
    "nofile=64:128",
    "nofile=:",
    "=1:2",
    "CAP_SYS_ADMIN",
    "all",
    "ALL,default",
    "cap_",
    "default",
    "keep",
    "linux/amd64",
    "//",
    "a/b/c/d",
    "\u{202e}evil",
    "tab\there",
    "new\nline",
    "\u{1b}[2J",
    "root",
    "nobody",
    "99999999999",
    "+1",
    "auto",
    "1970-01-01",
    "monotonic",
    "%s%n",
    "$(id)",
    "`id`",
    "'",
    "\"",
    "\\",
    "üñí",
    "true",
    "sh",
];

/// The long options that a tool's help lists.
fn options(help: &str) -> Vec<String> {
    let words = help.lines().map(str::trim_start).filter(|line| line.starts_with('-')).flat_map(str::split_whitespace);
    let name = |word: &str| {
        let word: String = word.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        (word.starts_with("--") && word.len() > 2).then_some(word)
    };
    let mut found: Vec<String> = words.filter_map(name).collect();
    found.sort();
    found.dedup();
    found.retain(|option| option != "--help" && option != "--version");
    found
}

fn try_many(tool: &str) {
    let work = Work::new();
    let rounds = if std::env::var("CHAINROOT_ARGV").is_ok_and(|value| value == "all") { 10_000 } else { 700 };
    let help = work.sh(&format!("{tool} --help"));
    let options = options(&help.stdout);
    assert!(options.len() > 3, "{options:?}");
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for _ in 0..rounds {
        let mut arguments: Vec<OsString> = vec!["--explain".into()];
        for _ in 0..dice.below(6) {
            let value = VALUES[dice.below(VALUES.len())];
            match dice.below(5) {
                0 => arguments.push(value.into()),
                1 => arguments.push(options[dice.below(options.len())].clone().into()),
                2 => arguments.push(format!("{}={value}", options[dice.below(options.len())]).into()),
                3 => arguments.extend([options[dice.below(options.len())].clone().into(), OsString::from(value)]),
                _ => {
                    let noise: Vec<u8> = (0..dice.below(12)).map(|_| 1 + dice.below(255) as u8).collect();
                    arguments.push(OsString::from_vec(noise));
                }
            }
        }
        arguments.extend(["--".into(), "true".into()]);
        let mut command = work.command(work.tool(tool));
        command.args(&arguments);
        let outcome = work.output(command, b"");
        let lines: Vec<&str> = outcome.stderr.lines().collect();
        let shown = || format!("{tool} {arguments:?}: {outcome:?}");
        match outcome.status {
            0 => {}
            125 => {
                let hints = lines.iter().filter(|line| line.starts_with(&format!("{tool}: hint: "))).count();
                let warnings = lines.iter().filter(|line| line.starts_with(&format!("{tool}: warning: "))).count();
                assert_eq!(lines.len() - hints - warnings, 1, "{}", shown());
            }
            _ => panic!("{}", shown()),
        }
        for line in lines {
            assert!(line.starts_with(&format!("{tool}: ")), "{}", shown());
            assert!(!line.chars().any(char::is_control), "a control character: {}", shown());
        }
    }
    let left: Vec<_> = std::fs::read_dir(work.path()).expect("the directory").collect();
    assert!(left.is_empty(), "explaining has made {left:?}");
}

#[test]
fn any_arguments_of_unpack_are_a_plan_or_one_line() {
    try_many("unpack");
}

#[test]
fn any_arguments_of_isolate_are_a_plan_or_one_line() {
    try_many("isolate");
}

#[test]
fn any_arguments_of_pivot_are_a_plan_or_one_line() {
    try_many("pivot");
}

#[test]
fn any_arguments_of_mountclean_are_a_plan_or_one_line() {
    try_many("mountclean");
}
