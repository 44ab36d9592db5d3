//! --as-image: what the image says, from the receipt beside the root.

mod scene;

use chainroot_tests::Work;
use scene::{scene, ways};

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
        work.sh(&format!("{way} pivot --as-image root")).expect_refusal(&["another tree", "hint: unpack --replace"]);
        std::fs::write(work.join("root.image.json"), "{").unwrap();
        work.sh(&format!("{way} pivot --as-image root")).expect_refusal(&["root.image.json: no receipt"]);
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
