//! A hostile container that waits for a program of the host's to come in.

use chainroot_tests::{Work, busybox_image, needs_root, script, skip};

const SANDBOXED: &str = "--cap-drop ALL --no-new-privs --seccomp default";

/// The attacker (tests/escape/lurk.c) runs in a chain with these privileges while `enter` is run again and again, from
/// copies of the tools that an attack may harm. None is changed, and nothing of the caller's is taken.
///
/// https://nvd.nist.gov/vuln/detail/CVE-2019-5736: runc's program was overwritten by /proc/PID/exe.
/// https://nvd.nist.gov/vuln/detail/CVE-2016-9962: what runc had open was to be had by ptrace and /proc/PID/fd.
/// https://github.com/advisories/GHSA-xr7r-f8xq-vfvv: its working directory was one of the host's.
fn nothing_is_taken(privileges: &str, enter: &str) {
    let work = Work::new();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/escape/lurk.c");
    if work.sh(&format!("cc -static -O1 -o lurk '{source}'")).status != 0 {
        skip!("no cc that links statically");
    }
    let outcome = work.sh(&format!(
        r#"mkdir own && for name in unpack isolate pivot mountclean; do cp "$(command -v $name)" own/; done
        PATH=$PWD/own:$PATH; export CHAINROOT_BIN=$PWD/own
        echo secret >lurk-secret
        state() {{ stat -c '%n %a %u %g %s %Y' own/*; sha256sum own/*; }}
        state >before
        unpack --quiet '{image}' >/dev/null && mkfifo ready || exit
        isolate {user} --pid --uts --ipc --net -- \
            pivot --ephemeral --dev --bind "$PWD/lurk:/lurk:ro" ./root -- mountclean --mask -- \
            isolate {privileges} -- /lurk 300 >ready 2>errors &
        inside=$!
        exec 4<ready
        cat <&4 >taken &
        export LURK_SECRET=1
        n=0
        # As often as it takes, but for a container that has ended.
        while {{ [ $n -lt 200 ] || ! grep -q seen taken; }} && kill -0 $inside 2>/dev/null; do
            {enter} $inside {privileges_of_enter} true 7</ 8<lurk-secret && n=$((n + 1))
        done 2>>errors
        kill $inside
        wait
        state >after
        cmp before after; grep TAKEN taken | sort | uniq -c
        [ $n -ge 200 ] && grep -q seen taken && echo "watched""#,
        image = busybox_image().display(),
        user = work.user(),
        privileges_of_enter = if enter.contains("--join") { "--clean-env --cap-drop ALL --" } else { "" },
    ));
    assert_eq!(outcome.stdout, "watched\n", "{outcome:?}\n{}", work.sh("tail -n 3 errors").stdout);
}

#[test]
fn who_waits_in_a_sandbox_takes_nothing_from_who_enters() {
    nothing_is_taken(SANDBOXED, &script("enter"));
    nothing_is_taken(SANDBOXED, "isolate --join");
}

#[test]
fn another_user_in_a_sandbox_takes_nothing_either() {
    needs_root!();
    nothing_is_taken(&format!("--setuid 65534 --setgid 65534 {SANDBOXED}"), &script("enter"));
}

/// Root with every capability can leave anyway; but not change the program that it sees.
#[test]
fn root_inside_with_capabilities_cannot_change_what_enters() {
    nothing_is_taken("--cap-drop SYS_PTRACE,SYS_ADMIN,DAC_READ_SEARCH", &script("enter"));
}
