//! scripts/box and git: work goes on, and what git runs or reads as orders stays as it is.
//!
//! https://github.com/anthropics/claude-code/issues/50505 and https://github.com/openai/codex/issues/7071 are of sandboxes in
//! which git could do nothing; with hooks alone read-only, `mv .git .git2; mkdir .git` gave it other hooks.

use chainroot_tests::{Person, have, skip};

const REPOSITORY: &str = "git config --global user.name me; git config --global user.email me@here; git config --global init.defaultBranch main
    git init -q; echo 1 >file; git add file; git commit -qm one; mkdir -p .git/info; echo '* text' >.git/info/attributes;";

macro_rules! needs_git {
    () => {
        if !have("git") {
            skip!("no git");
        }
    };
}

#[test]
fn git_works_inside() {
    needs_git!();
    let person = Person::new();
    let outcome = person.sh(&format!(
        "{REPOSITORY} exec 2>&1
        box sh -ec 'git status --short; echo 2 >file; git commit -qam two; git branch -q other; git switch -q other
            git stash list; echo 3 >file; git stash -q; git stash pop -q; git commit -qam three; git gc -q; git worktree add -q -b other2 sub
            git switch -q main; git merge -q other; git log --format=%s; git fsck --strict >/dev/null && echo whole'
        git status --short --untracked-files=no; git log -1 --format=%s"
    ));
    outcome.expect(0, "three\ntwo\none\nwhole\nthree\n");
}

#[test]
fn what_git_runs_stays_as_it_is() {
    needs_git!();
    let person = Person::new();
    let try_all = "for path in .git/hooks/pre-commit .git/config .git/info/attributes .git/worktrees/tree/commondir .git/modules/x; do
            (echo evil >>$path) 2>/dev/null && echo wrote $path
        done
        for name in .git .git/hooks .git/info .git/config .git/worktrees .git/worktrees/tree .git/modules; do
            mv $name moved 2>/dev/null && echo moved $name; rm -rf $name 2>/dev/null && [ ! -e $name ] && echo removed $name
        done
        ln -sf /dev/null .git/hooks 2>/dev/null; git config core.fsmonitor evil 2>/dev/null && echo configured; true";
    let setup = format!("{REPOSITORY} git worktree add -q ../tree; mkdir .git/modules; cp -a .git ../before;");
    let outcome =
        person.sh(&format!("{setup} box sh -c '{try_all}'; diff -r .git ../before && echo same; git status --short"));
    assert!(outcome.stdout.ends_with("same\n") || outcome.stdout.contains("Only in ../before"), "{outcome:?}");
    for word in ["wrote", "moved", "configured"] {
        assert!(!outcome.stdout.contains(word), "{outcome:?}");
    }
    for kept in ["hooks", "config", "info/attributes", "worktrees/tree/commondir", "modules"] {
        assert!(person.dir().join(".git").join(kept).exists(), "{kept} is gone: {outcome:?}");
    }
}

#[test]
fn a_worktree_has_its_repository_and_not_its_hooks() {
    needs_git!();
    let person = Person::new();
    let outcome = person.sh(&format!(
        "{REPOSITORY} git worktree add -q ../tree; cd ../tree
        box sh -c 'echo 2 >file && git commit -qam two && git log -1 --format=%s
            for path in .git ../work/.git/hooks/pre-commit ../work/.git/config ../work/.git/worktrees/tree/commondir ../work/.git/worktrees/tree/gitdir; do
                (echo evil >>$path) 2>/dev/null && echo wrote $path
            done; mv .git moved 2>/dev/null && echo moved; mv ../work/.git/worktrees ../work/.git/w 2>/dev/null && echo moved
            ls ../work'
        git log -1 --format=%s"
    ));
    outcome.expect(0, "two\ntwo\n");
}

#[test]
fn hooks_and_configuration_in_the_tree_stay_as_they_are_too() {
    needs_git!();
    let person = Person::new();
    let outcome = person.sh(&format!(
        "{REPOSITORY} mkdir -p tools/hooks; echo true >tools/hooks/pre-commit; printf '[alias]\\nx = status\\n' >tools/gitconfig
        git config core.hooksPath tools/hooks; git config include.path ../tools/gitconfig
        box sh -c 'for path in tools/hooks/pre-commit tools/hooks/new tools/gitconfig; do (echo evil >>$path) 2>/dev/null && echo wrote $path; done
            mv tools t 2>/dev/null && echo moved; echo x >tools/other && echo other'
        rm -r tools/hooks; box true"
    ));
    assert_eq!((outcome.status, outcome.stdout.as_str()), (125, "other\n"), "{outcome:?}");
    assert!(outcome.stderr.contains("tools/hooks: not there, so COMMAND could make it"), "{outcome:?}");
}

#[test]
fn a_repository_without_hooks_is_refused_and_one_that_is_opened_is_open() {
    needs_git!();
    let person = Person::new();
    person.sh(&format!("{REPOSITORY} rm -r .git/hooks; box true")).expect_refusal(&[".git/hooks: not there", "-G"]);
    person.sh("box -G sh -c 'mkdir .git/hooks; echo true >.git/hooks/pre-commit; git config alias.x status' && ls .git/hooks && git config alias.x")
        .expect(0, "pre-commit\nstatus\n");
    // No repository, and one that only says so.
    person.sh("rm -rf .git; box true").expect(0, "");
    person.sh("echo 'gitdir: /etc' >.git; box true").expect_refusal(&["not a repository of yours"]);
    person.sh("echo x >.git; box true").expect_refusal(&["not a repository"]);
}

/// A file of this name is made by no git in a repository of its own: its configuration would be read elsewhere.
#[test]
fn a_repository_whose_common_directory_lies_elsewhere_is_refused() {
    needs_git!();
    let person = Person::new();
    person
        .sh(&format!("{REPOSITORY} box sh -c 'mkdir evil; echo ../evil >.git/commondir'; box true"))
        .expect_refusal(&[".git/commondir", "rm"]);
}
