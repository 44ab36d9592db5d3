//! What a newcomer's first build and first test run say when something is missing.

use chainroot_tests::{Work, have, needs_root, script, skip};

/// A shell line with the cargo that runs the tests on PATH, in a mount and network namespace of its own.
fn apart(work: &Work, line: &str) -> Option<String> {
    let cargo = std::env::var("CARGO").ok()?;
    let (bin, _) = cargo.rsplit_once('/')?;
    std::fs::write(work.join("line"), format!("PATH='{bin}':$PATH; export CARGO_TARGET_DIR=$PWD/target; {line}"))
        .expect("the line");
    Some(format!("isolate {} --mount --net -- sh line", work.user()))
}

macro_rules! apart {
    ($work:expr, $line:expr) => {
        match apart(&$work, $line) {
            Some(line) => $work.sh(&line),
            None => skip!("needs cargo, which is not what runs this (it is where the tests run as root)"),
        }
    };
}

#[test]
fn a_build_that_cannot_download_says_so() {
    let work = Work::new();
    let line = format!("CARGO_HOME=$PWD/empty CARGO_NET_RETRY=0 {}", script("build"));
    let outcome = apart!(work, &line);
    outcome.expect(1, "");
    assert!(outcome.stderr.contains("build: the crates could not be downloaded"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("libc6-dev"), "{}", outcome.stderr);
}

#[test]
fn a_build_without_the_static_c_library_names_its_package() {
    let work = Work::new();
    let line = format!("mount --bind /dev/null $(cc -print-file-name=libc.a) && {}", script("build"));
    let outcome = apart!(work, &line);
    outcome.expect(1, "");
    assert!(outcome.stderr.contains("cannot link a static program"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("apt install libc6-dev"), "{}", outcome.stderr);
}

#[test]
fn a_build_in_a_directory_that_it_cannot_write_to_says_so() {
    let work = Work::new();
    let line = "mkdir target && mount --bind target target && mount -o remount,bind,ro target";
    let outcome = apart!(work, &format!("{line} && {}", script("build")));
    outcome.expect(1, "");
    assert!(outcome.stderr.contains("you cannot write there"), "{}", outcome.stderr);
}

#[test]
fn the_test_script_asks_before_it_installs_anything() {
    needs_root!();
    if !have("apt-get") {
        skip!("no apt-get");
    }
    let work = Work::new();
    // A program is hidden, and apt knows of no server.
    let hide = "umoci=$(command -v umoci) && mount --bind /dev/null $umoci && export APT_CONFIG=$PWD/apt && unset CI";
    let apt = "Dir::Etc::SourceList \"/dev/null\"; Dir::Etc::SourceParts \"/dev/null\"; Dir::State::Lists \"lists\";";
    std::fs::write(work.join("apt"), apt).expect("a configuration");
    let line = format!("{hide} && {} --help", script("test"));
    let Some(line) = apart(&work, &line) else {
        skip!("needs cargo, which is not what runs this (it is where the tests run as root)")
    };
    let unattended = work.sh(&line);
    assert!(unattended.status == 0 && unattended.stdout.contains("cargo test"), "{unattended:?}");
    assert!(unattended.stderr.contains("test: not installed: umoci"), "{}", unattended.stderr);
    assert!(unattended.stderr.contains("nothing installed"), "{}", unattended.stderr);

    let mut terminal = work.terminal("sh", &["-c", &line]);
    terminal.expect("install these packages? [y/N] ");
    terminal.send("n\n");
    let (rest, status) = terminal.end();
    assert!(status == 0 && rest.contains("nothing installed") && rest.contains("cargo test"), "{rest}");
}
