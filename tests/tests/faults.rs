//! Every system call of isolate, pivot and mountclean fails once: the contract holds all the same.
//!
//! A sample of the faults by default; all of them with `CHAINROOT_FAULTS=all` (scripts/soak faults).

use std::fs;
use std::process::Stdio;
use std::sync::mpsc;

use chainroot_tests::faults::{Case, behind_a_wall, fail_every_call};
use chainroot_tests::{Work, busybox_image, needs_root};
use nix::mount::{MntFlags, umount2};

fn nothing(_: i32) -> Result<(), String> {
    Ok(())
}

fn check(work: &Work, tool: &str, line: &str, stdout: &str) {
    fail_every_call(work, &Case { tool, line, stdout: stdout.to_owned(), before: &|| {}, after: &nothing });
}

fn with_root() -> Work {
    behind_a_wall();
    let work = Work::new();
    work.sh(&format!("unpack --quiet '{}'", busybox_image().display()))
        .expect(0, &format!("{}\n", work.join("root").display()));
    work
}

#[test]
fn whatever_fails_in_isolate_the_contract_holds() {
    needs_root!();
    let work = with_root();
    check(
        &work,
        "isolate",
        "isolate --pid --uts --ipc --mount --net --cgroup --hostname inside -- echo done",
        "done\n",
    );
}

#[test]
fn whatever_fails_in_isolate_with_a_user_namespace_the_contract_holds() {
    needs_root!();
    let work = with_root();
    check(&work, "isolate", "isolate --user --map-root --pid -- echo done", "done\n");
}

#[test]
fn whatever_fails_in_an_isolate_with_limits_other_ids_or_fewer_privileges_the_contract_holds() {
    needs_root!();
    let work = with_root();
    check(&work, "isolate", "isolate --setgid 1000 --setuid 1000 -- echo done", "done\n");
    check(&work, "isolate", "isolate --cap-drop ALL --no-new-privs --seccomp default -- echo done", "done\n");
    check(&work, "isolate", "isolate --memory 64M --pids-max 16 --rlimit nofile=64:128 -- echo done", "done\n");
}

#[test]
fn whatever_fails_in_isolate_with_all_namespaces_the_contract_holds() {
    needs_root!();
    let work = with_root();
    check(
        &work,
        "isolate",
        "isolate --all --map-root --mount-proc --boottime 100 --clean-env --wd / -- echo done",
        "done\n",
    );
    check(
        &work,
        "isolate",
        "isolate --map-users 0:100000:1000 --map-groups 0:100000:1000 --pid -- echo done",
        "done\n",
    );
}

#[test]
fn whatever_fails_in_an_isolate_with_init_the_contract_holds() {
    needs_root!();
    let work = with_root();
    check(&work, "isolate", "isolate --pid --init -- echo done", "done\n");
    check(&work, "isolate", "isolate --init --memory 64M --cpus 1 --pids-max 16 -- echo done", "done\n");
}

#[test]
fn whatever_fails_in_isolate_a_status_is_of_whole_lines() {
    needs_root!();
    let work = with_root();
    let after = |_| {
        let text = fs::read_to_string(work.join("status")).map_err(|error| error.to_string())?;
        let events: Vec<String> = text
            .lines()
            .map(|line| {
                let value: serde_json::Value =
                    serde_json::from_str(line).map_err(|error| format!("{line}: {error}"))?;
                Ok(value["event"].as_str().unwrap_or_default().to_owned())
            })
            .collect::<Result<_, String>>()?;
        // A line that could not be written is not there, and the other is where it belongs.
        match events.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["started", "exited"] | ["started"] | ["exited"] | [] => Ok(()),
            _ => Err(format!("the status is {text:?}")),
        }
    };
    let line = "isolate --pid --pids-max 16 --status-fd 3 -- echo done 3>status";
    fail_every_call(&work, &Case { tool: "isolate", line, stdout: "done\n".into(), before: &|| {}, after: &after });
}

#[test]
fn whatever_fails_in_isolate_a_join_enters_all_or_nothing() {
    needs_root!();
    let work = with_root();
    let mut command = work.command("isolate");
    command.args(["--pid", "--uts", "--ipc", "--net", "--", "sh", "-c", "echo ready; read line"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let (say, hear) = mpsc::channel();
    std::thread::scope(|scope| {
        // The tracer waits for every child of its own thread: this one is another's.
        scope.spawn(move || {
            let mut there = command.spawn().expect("spawn");
            let mut ready = [0; 6];
            std::io::Read::read_exact(there.stdout.as_mut().expect("stdout"), &mut ready).expect("it starts");
            say.send((there.id(), there.stdin.take())).expect("send");
            there.wait().expect("wait");
        });
        let (pid, stdin) = hear.recv().expect("it starts");
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("children");
        let is_shell =
            |child: &&str| fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|name| name == "sh\n");
        let child = children.split_whitespace().find(is_shell).expect("the shell inside");
        let name = |kind: &&str| fs::read_link(format!("/proc/{child}/ns/{kind}")).expect("a namespace");
        let line = |join: &str, kinds: &[&str]| {
            let links: Vec<_> = kinds.iter().map(|kind| format!("/proc/self/ns/{kind}")).collect();
            let names: String = kinds.iter().map(name).map(|name| format!("{}\n", name.display())).collect();
            check(&work, "isolate", &format!("isolate --join {join} -- readlink {}", links.join(" ")), &names);
        };
        line(&pid.to_string(), &["pid", "uts", "ipc", "net"]);
        line(&format!("uts=/proc/{child}/ns/uts,net=/proc/{child}/ns/net"), &["uts", "net"]);
        drop(stdin);
    });
}

#[test]
fn whatever_fails_in_isolate_a_namespace_is_kept_or_not() {
    needs_root!();
    let work = with_root();
    let release = || {
        for name in ["uts", "net"] {
            let file = work.join(name);
            while umount2(&file, MntFlags::MNT_DETACH).is_ok() {}
            fs::write(&file, "").expect("write");
        }
    };
    let after = |status| {
        let tables = fs::read_to_string("/proc/thread-self/mountinfo").expect("mountinfo");
        let kept = tables.lines().filter(|line| line.contains(" - nsfs ")).count();
        release();
        if status == 0 && kept != 2 { Err(format!("{kept} namespaces are kept")) } else { Ok(()) }
    };
    let line = "isolate --uts=uts --net=net -- echo done";
    fail_every_call(&work, &Case { tool: "isolate", line, stdout: "done\n".into(), before: &release, after: &after });
}

#[test]
fn whatever_fails_in_pivot_the_contract_holds() {
    needs_root!();
    let work = with_root();
    check(&work, "pivot", "pivot root -- echo done", "done\n");
    check(&work, "pivot", "pivot --read-only root -- echo done", "done\n");
    check(&work, "pivot", "pivot --put-old /var root -- echo done", "done\n");
    check(&work, "pivot", "pivot --ephemeral --tmpfs /tmp --bind /etc:/var:ro --dev root -- echo done", "done\n");
    check(&work, "pivot", "pivot --overlay changes root -- echo done", "done\n");
    check(&work, "pivot", "pivot --ephemeral --read-only --etc resolv,hosts,hostname root -- echo done", "done\n");
    // The image's own words, environment and user.
    let script = r#"id() { sha256sum <"$1" | cut -d ' ' -f 1; }
        printf '{"architecture":"amd64","os":"linux","config":{"Entrypoint":["/bin/echo"],"Cmd":["done"],"Env":["A=b"],"User":"root","WorkingDir":"/tmp"},
            "rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' "$(id layer.tar)" >config.json
        printf '[{"Config":"config.json","RepoTags":["x:1"],"Layers":["layer.tar"]}]' >manifest.json
        tar -cf image.tar manifest.json config.json layer.tar && unpack --quiet image.tar image >/dev/null"#;
    work.sh(&format!("cp {} layer.tar; {script}", busybox_image().display())).expect(0, "");
    check(&work, "pivot", "pivot --as-image --keep-host image", "done\n");
}

#[test]
fn whatever_fails_in_a_pivot_of_an_ordinary_chain_the_contract_holds() {
    needs_root!();
    let work = with_root();
    let isolate = "isolate --user --map-root --pid --";
    check(&work, "pivot", &format!("{isolate} pivot --bind /etc:/var --tmpfs /tmp --dev root -- echo done"), "done\n");
    check(&work, "pivot", &format!("{isolate} pivot --ephemeral root -- mountclean -- echo done"), "done\n");
}

#[test]
fn whatever_fails_in_a_pivot_that_unpack_hands_a_root_to_the_contract_holds() {
    needs_root!();
    let work = with_root();
    // What unpack says of a pivot that is gone is its own: it has a log.
    let line = format!("unpack --quiet {} 2>log | pivot root -- echo done", busybox_image().display());
    check(&work, "pivot", &line, "done\n");
}

#[test]
fn whatever_fails_in_mountclean_the_contract_holds() {
    needs_root!();
    let work = with_root();
    check(&work, "mountclean", "isolate --pid -- pivot root -- mountclean -- echo done", "done\n");
    check(&work, "mountclean", "isolate --pid -- mountclean -- echo done", "done\n");
    check(&work, "mountclean", "isolate --pid --net -- pivot root -- mountclean --mask --sys -- echo done", "done\n");
    check(
        &work,
        "mountclean",
        "isolate --pid -- pivot --tmpfs /tmp root -- mountclean --proc-opts hidepid=2 --keep-mount /tmp -- echo done",
        "done\n",
    );
    check(
        &work,
        "mountclean",
        "isolate --user --map-root --pid --net -- pivot root -- mountclean --mask --sys -- echo done",
        "done\n",
    );
}
