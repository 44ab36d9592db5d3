//! box -k: the changes of a directory kept apart, looked at, and then made or thrown away.
//!
//! https://github.com/always-further/nono/issues/49 wishes for it.

use std::fs;
use std::os::unix::fs::chown;

use chainroot_tests::{Person, differences, have, is_root, skip, snapshot};

macro_rules! needs_python {
    () => {
        if !have("python3") {
            skip!("no python3");
        }
    };
}

/// Some thousand files in a few hundred directories, under git where that is there.
const TREE: &str = "for d in $(seq 300); do mkdir -p src/$((d % 20))/$d; for f in 1 2 3 4 5 6 7 8 9 10; do echo $d $f >src/$((d % 20))/$d/$f; done; done
    ln -s src/1 link; chmod 755 src/2/2/2; mkfifo fifo
    if command -v git >/dev/null; then git config --global user.email me@here; git config --global user.name me; git init -q; git add src; git commit -qm one; fi;";

const WORK: &str = "echo changed >src/1/1/1; echo new >src/1/1/new; rm src/3/3/3; rm -r src/4; mv src/5 src/renamed; mv src/6/6/6 src/6/6/moved
    rm -r src/7/7 && echo file >src/7/7; rm src/8/8/8 && mkdir -p src/8/8/8/deep && echo x >src/8/8/8/deep/x
    rm link; ln -s src/2 link; ln -s /etc/passwd out; chmod 700 src/2/2/2; chmod 600 src/9/9/9; chmod 750 src/10; rm fifo
    rm -r src/11/11; mkdir src/11/11; echo only >src/11/11/only; echo one >twin; ln twin twin2; printf x >'a b
c'; : >-n; truncate -s 1M sparse
    if [ -d .git ]; then git add -A && git commit -qm two; fi; true";

#[test]
fn applied_changes_are_what_the_command_would_have_made_there() {
    needs_python!();
    let person = Person::new();
    person.sh(&format!("{TREE} cp -a . ../same; echo \"{}\" >../do", WORK.replace('"', "\\\""))).expect(0, "");
    if is_root() {
        for place in ["work/foreign", "same/foreign"] {
            fs::write(person.home().join(place), "x").expect("a file");
            chown(person.home().join(place), Some(4321), Some(4321)).expect("another owner");
        }
        fs::write(person.home().join("do"), format!("{WORK}\nrm -f foreign\n")).expect("the work");
    }
    let before = snapshot(&person.dir());
    person.sh("box -k ~/kept sh -c \"$(cat ../do)\"").expect(0, "");
    assert_eq!(differences(&snapshot(&person.dir()), &before), Vec::<String>::new());
    let outcome = person.sh("cd ../same && box sh -c \"$(cat ../do)\"; cd ../work; echo y | $BOX --apply ~/kept >/dev/null; ls -d ~/kept 2>/dev/null");
    outcome.expect(2, "");
    assert_eq!(outcome.stderr, "");
    // Commits have times, and so names, of their own.
    person.sh("rm -rf .git ../same/.git");
    let bare = |dir| {
        let found = snapshot(&person.home().join(dir)).into_iter();
        found
            .map(|(path, facts)| {
                (path, facts.lines().filter(|line| !line.starts_with("time")).collect::<Vec<_>>().join("\n"))
            })
            .collect()
    };
    assert_eq!(differences(&bare("work"), &bare("same")), Vec::<String>::new());
}

#[test]
fn what_runs_and_what_leads_elsewhere_is_listed_first() {
    needs_python!();
    let person = Person::new();
    let outcome = person.sh(
        "mkdir -p .git/hooks; echo x >b; chmod 644 b
        box -k ~/kept sh -c 'echo y >a; echo y >>b; echo evil >.git/hooks/pre-commit; ln -s /etc/passwd z; echo run >x; chmod 755 x; printf \"\\033]0;title\\007\" >esc'
        $BOX --diff ~/kept; $BOX --discard ~/kept; ls ~; ls",
    );
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(
        lines[..6],
        ["A .git/hooks/pre-commit", "A x  (mode 755)", "A z  (-> /etc/passwd)", "A a", "M b", "A esc"],
        "{outcome:?}"
    );
    assert!(outcome.stdout.contains("\n+evil\n") && outcome.stdout.contains("\n x\n+y\n"), "{outcome:?}");
    assert!(outcome.stdout.contains("+\\x1b]0;title\\x07") && !outcome.stdout.contains('\x1b'), "{outcome:?}");
    assert!(outcome.stdout.ends_with("work\nb\n"), "{outcome:?}");
}

#[test]
fn a_directory_that_has_changed_meanwhile_is_left_alone() {
    needs_python!();
    let person = Person::new();
    person.sh("mkdir d; echo 1 >d/file; echo 1 >gone; box -k ~/kept sh -c 'echo 2 >d/file'").expect(0, "");
    for change in ["echo 3 >d/file", "rm gone", "chmod 600 d/file"] {
        person
            .sh(&format!(
                "cp -a ~/kept ~/copy; {change}; echo y | $BOX --apply ~/kept >/dev/null; s=$?; rm -r ~/copy; exit $s"
            ))
            .expect_refusal(&["has changed since the box was started"]);
    }
    // The changes are still there, and the next box goes on with them.
    person.sh("box -k ~/kept cat d/file; echo n | $BOX --apply ~/kept >/dev/null").expect(125, "2\n");
}

#[test]
fn nothing_is_applied_unless_the_answer_is_yes_or_while_a_box_runs() {
    needs_python!();
    let person = Person::new();
    person
        .sh("box -k ~/kept sh -c 'echo 1 >file'; $BOX --apply ~/kept </dev/null >/dev/null; echo $?; ls")
        .expect(0, "1\n");
    person
        .sh("mkfifo ../up ../down; box -k ~/kept -w ../up -w ../down sh -c 'echo up >../up; read line <../down' & read up <../up
            echo y | $BOX --apply ~/kept >/dev/null; echo $?; box -k ~/kept true 2>/dev/null; echo $?; echo >../down; wait; ls")
        .expect(0, "125\n125\n");
}

#[test]
fn a_place_for_changes_is_a_new_one_or_from_before() {
    let person = Person::new();
    person.sh("box -k kept true").expect_refusal(&["lies in the directory"]);
    person.sh("mkdir ~/full; echo x >~/full/x; box -k ~/full true").expect_refusal(&["not from box -k"]);
    person
        .sh("box -k ~/kept true; mkdir ~/other; cd ~/other; box -k ~/kept true")
        .expect_refusal(&["has the changes of"]);
    if have("python3") {
        person.sh("$BOX --diff ~/none").expect_refusal(&["none: no changes"]);
        person.sh("$BOX --apply").expect_refusal(&["usage"]);
    }
}
