//! --as-image: what the image says, from the receipt beside the root.

use chainroot_tests::scene::{scene, ways};
use chainroot_tests::{Work, is_root, needs_root, skip};

/// A receipt as unpack writes it, with this configuration.
fn receipt(work: &Work, config: &str) {
    let root = rustix::fs::statx(
        rustix::fs::CWD,
        work.join("root"),
        rustix::fs::AtFlags::empty(),
        rustix::fs::StatxFlags::BASIC_STATS | rustix::fs::StatxFlags::BTIME,
    )
    .unwrap();
    let text = format!(
        r#"{{"version": 1, "root": {{"device": "{}:{}", "inode": {}, "birth": [{}, {}]}}, "config": {config}}}"#,
        root.stx_dev_major, root.stx_dev_minor, root.stx_ino, root.stx_btime.tv_sec, root.stx_btime.tv_nsec
    );
    std::fs::write(work.join("root.image.json"), text).unwrap();
}

const CONFIG: &str = r#"{"config": {"Env": ["PATH=/bin:/own", "GREETING=hello; \"world\""], "WorkingDir": "/made/here",
    "Entrypoint": ["sh", "-c", "echo \"$GREETING\" $PATH $HOME; pwd; for a; do echo \"<$a>\"; done", "sh"], "Cmd": ["a b", "--x"]}}"#;

#[test]
fn entrypoint_env_and_directory_are_the_images_and_words_replace_cmd() {
    for way in ways() {
        let work = scene();
        receipt(&work, CONFIG);
        let expected = "hello; \"world\" /bin:/own /root\n/made/here\n";
        work.sh(&format!("{way} pivot --as-image root")).expect(0, &format!("{expected}<a b>\n<--x>\n"));
        work.sh(&format!("{way} pivot --as-image root -- one '2  3'")).expect(0, &format!("{expected}<one>\n<2  3>\n"));
        work.sh(&format!("{way} pivot --as-image --chdir /tmp root one"))
            .expect(0, "hello; \"world\" /bin:/own /root\n/tmp\n<one>\n");
    }
}

#[test]
fn the_images_command_comes_behind_the_links_that_follow() {
    for way in ways() {
        let work = scene();
        receipt(&work, CONFIG);
        let expected = "hello; \"world\" /bin:/own /root\n/made/here\n";
        work.sh(&format!("{way} pivot --as-image root -- mountclean")).expect(0, &format!("{expected}<a b>\n<--x>\n"));
        work.sh(&format!("{way} pivot --as-image root -- mountclean -- isolate --uts"))
            .expect(0, &format!("{expected}<a b>\n<--x>\n"));
        work.sh(&format!("{way} pivot --as-image root -- mountclean -- isolate -- one"))
            .expect(0, &format!("{expected}<one>\n"));
    }
}

#[test]
fn the_receipt_may_come_down_the_pipe_after_pivot_has_started() {
    for way in ways() {
        let work = scene();
        receipt(&work, CONFIG);
        let late = "mv root.image.json kept; (printf %s \"$PWD/root\"; while [ ! -e go ]; do sleep 0.05; done; mv kept root.image.json; echo) |";
        work.sh(&format!("{late} {{ (sleep 0.2; touch go) & {way} pivot --as-image root | tail -n 1; }}"))
            .expect(0, "<--x>\n");
    }
}

#[test]
fn a_root_without_its_own_receipt_or_configuration_is_refused() {
    for way in ways() {
        let work = scene();
        work.sh(&format!("{way} pivot --as-image root"))
            .expect_refusal(&["root.image.json: not there", "hint: unpack"]);
        receipt(&work, "null");
        work.sh(&format!("{way} pivot --as-image root")).expect_refusal(&["the image has no configuration", "hint: "]);
        receipt(&work, CONFIG);
        work.sh("mv root old; cp -a old root");
        work.sh(&format!("{way} pivot --as-image root")).expect_refusal(&["another tree", "hint: unpack IMAGE"]);
        std::fs::write(work.join("root.image.json"), "{").unwrap();
        work.sh(&format!("{way} pivot --as-image root"))
            .expect_refusal(&["root: what its image says cannot be trusted", "root.image.json is damaged"]);
    }
}

#[test]
fn the_user_is_looked_up_in_the_roots_own_passwd() {
    for way in ways() {
        let work = scene();
        work.sh("echo web:x:33:34::/srv/web:/bin/sh >>root/etc/passwd");
        let config = |user: &str| {
            format!(r#"{{"config": {{"User": "{user}", "Entrypoint": ["sh", "-c", "id -u; id -g; echo $HOME"]}}}}"#)
        };
        receipt(&work, &config("nobody"));
        work.sh(&format!("{way} pivot --as-image root")).expect_refusal(&["user nobody is not in its /etc/passwd"]);
        receipt(&work, &config("0"));
        work.sh(&format!("{way} pivot --as-image root")).expect(0, "0\n0\n/root\n");
        // In a user namespace of one id there is no other user to become.
        if way.contains("user") {
            continue;
        }
        for (user, expected) in [("web", "33\n34\n/srv/web\n"), ("33:7", "33\n7\n/srv/web\n"), ("77", "77\n0\n/\n")] {
            receipt(&work, &config(user));
            work.sh(&format!("{way} pivot --as-image root")).expect(0, expected);
            work.sh(&format!("{way} pivot --as-image root -- mountclean")).expect(0, expected);
        }
    }
}

/// -1 is "leave it as it is" to setresuid(2): the command would stay root.
#[test]
fn an_images_user_that_is_no_id_is_refused() {
    for way in ways() {
        let work = scene();
        work.sh("echo odd:x:4294967295:0::/:/bin/sh >>root/etc/passwd");
        for user in ["4294967295", "4294967296", "0:4294967295", "18446744073709551616", "odd"] {
            receipt(&work, &format!(r#"{{"config": {{"User": "{user}", "Entrypoint": ["id"]}}}}"#));
            work.sh(&format!("{way} pivot --as-image root"))
                .expect_refusal(&["not an id that a user or group can have (0 to 4294967294)"]);
        }
    }
}

#[test]
fn a_passwd_that_leads_out_of_the_root_or_has_no_end_is_not_read() {
    for way in ways() {
        let work = scene();
        receipt(&work, r#"{"config": {"User": "nobody", "Entrypoint": ["true"]}}"#);
        work.sh("cp /etc/passwd hosts-passwd; grep -q ^nobody: hosts-passwd").expect(0, "");
        for make in
            ["ln -s ../../hosts-passwd", "ln -s \"$PWD/hosts-passwd\"", "ln -s /proc/self/root/etc/passwd", "mkfifo"]
        {
            work.sh(&format!("rm -f root/etc/passwd; {make} root/etc/passwd")).expect(0, "");
            work.sh(&format!("{way} pivot --as-image root")).expect_refusal(&["user nobody is not in its /etc/passwd"]);
        }
        if chainroot_tests::is_root() {
            work.sh("rm root/etc/passwd; mknod root/etc/passwd c 1 5").expect(0, "");
            work.sh(&format!("{way} pivot --as-image root")).expect_refusal(&["user nobody is not in its /etc/passwd"]);
        }
    }
}

/// The last link is who becomes the image's user, after everything that takes privilege.
#[test]
fn an_isolate_that_is_the_last_link_becomes_the_images_user() {
    let work = scene();
    let has_ids = work.sh("grep -q \"^$(id -un):\" /etc/subuid && grep -q \"^$(id -un):\" /etc/subgid").status == 0;
    if !is_root() && !has_ids {
        skip!("nothing for this user in /etc/subuid");
    }
    work.sh(
        "echo web:x:33:34::/srv/web:/bin/sh >>root/etc/passwd; echo adm:x:4:bin,web >>root/etc/group; echo mail:x:8:web >>root/etc/group",
    );
    let command = "id -u; id -G; grep Cap[PE].[mf] /proc/self/status | tr -s '\\t0\\n' '   '";
    let config = |user: &str| format!(r#"{{"config": {{"User": "{user}", "Entrypoint": ["sh", "-c", "{command}"]}}}}"#);
    // The groups of a name, of a number, those of neither a name nor a known number, and the one that is named.
    let users = [("web", "33\n34 4 8\n"), ("33", "33\n34 4 8\n"), ("77", "77\n0\n"), ("web:mail", "33\n8\n")];
    // The caller's own groups are left, whichever they are.
    let all = "setpriv --groups 20,24 -- isolate --user --map-users=0:0:65536 --map-groups=0:0:65536 --pid --";
    let ways = match is_root() {
        true => vec!["setpriv --groups 20,24 -- isolate --pid --", all],
        false => vec!["isolate --map-auto --pid --"],
    };
    for way in ways {
        for (user, ids) in users {
            receipt(&work, &config(user));
            for last in [
                "",
                "--",
                "-- mountclean",
                "-- mountclean -- isolate --cap-drop ALL",
                "-- mountclean -- isolate --cap-drop ALL --no-new-privs --seccomp default",
                "-- mountclean -- isolate --uts --hostname x --cap-keep default --",
                "-- mountclean -- isolate --init --pid --cap-drop ALL",
                "-- mountclean -- isolate --uts -- isolate --ipc",
            ] {
                // Without mountclean there is no /proc to look in.
                let none = if last.contains("mountclean") { "CapPrm: CapEff: " } else { "" };
                let outcome = work.sh(&format!("{way} pivot --as-image root {last}"));
                assert_eq!(
                    (outcome.status, outcome.stdout.as_str()),
                    (0, format!("{ids}{none}").as_str()),
                    "{way} {user} {last}: {}",
                    outcome.stderr
                );
            }
        }
        // What is said explicitly wins.
        receipt(&work, &config("web"));
        let pivot = format!("{way} pivot --as-image root -- mountclean -- isolate");
        let first_lines = |line: &str| work.sh(&format!("{line} 2>/dev/null | head -n 2")).stdout;
        assert_eq!(first_lines(&format!("{pivot} --setuid 0 --setgid 0 --cap-drop SYS_TIME")), "0\n0\n");
        assert_eq!(first_lines(&format!("{pivot} --setuid 5")), "5\n34\n");
        assert_eq!(first_lines(&format!("{pivot} --setgid 5")), "33\n5\n");
        // The chain's end is where a foreign word is: an isolate before it that is not last stays who it is.
        work.sh(&format!("{pivot} -- env id -u")).expect(0, "33\n34 4 8\nCapPrm: CapEff: ");
    }
}

#[test]
fn where_the_images_user_cannot_be_had_it_says_why() {
    let work = scene();
    work.sh("echo web:x:33:34::/srv/web:/bin/sh >>root/etc/passwd");
    receipt(&work, r#"{"config": {"User": "web", "Entrypoint": ["id"]}}"#);
    for last in ["", "-- mountclean -- isolate --cap-drop ALL"] {
        work.sh(&format!("isolate --user --map-root --pid -- pivot --as-image root {last}")).expect_refusal(&[
            "isolate: ",
            "become group 34",
            "hint: 34 is not mapped",
            "--map-auto",
        ]);
    }
    needs_root!();
    work.sh("echo adm:x:4:web >>root/etc/group");
    let denied = "isolate --user --map-users=0:0:65536 --map-groups=0:0:65536 --setgroups deny --pid --";
    work.sh(&format!("{denied} pivot --as-image root")).expect_refusal(&["setgroups is denied", "hint: --setgid"]);
}

#[test]
fn the_explained_script_becomes_the_images_user_too() {
    needs_root!();
    let work = scene();
    work.sh("echo web:x:33:34::/srv/web:/bin/sh >>root/etc/passwd; echo mail:x:8:web >>root/etc/group");
    receipt(&work, r#"{"config": {"User": "web", "Entrypoint": ["id", "-G"]}}"#);
    for (last, script) in [
        ("", "setpriv --reuid=33 --regid=34 --groups=8 id -G\n"),
        ("-- mountclean -- isolate --no-new-privs", "setpriv --reuid=33 --regid=34 --groups=8 --no-new-privs id -G\n"),
    ] {
        let explained = work.sh(&format!("pivot --explain --as-image root {last}"));
        assert_eq!((explained.status, explained.stderr.as_str()), (0, ""));
        assert!(explained.stdout.contains(script), "{}", explained.stdout);
    }
}
