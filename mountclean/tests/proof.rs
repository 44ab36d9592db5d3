//! The proof: each kind of leftover is planted, and found and named before COMMAND runs.

use chainroot_tests::scene::{has_overlay_for, scene, ways};
use chainroot_tests::{Outcome, Work, needs_root};

/// What the refused command would have printed.
const COMMAND: &str = "echo started";

/// Runs a script in a private mount namespace (and user namespace) in which the root is bound and
/// pivoted to by util-linux, with the host's tree stacked on `/`. The tools are in the root's /tools.
fn pivoted(work: &Work, way: &str, before: &str, after: &str) -> Outcome {
    let way = way.replace("--pid", "--pid --mount");
    work.sh(&format!(
        "mkdir -p root/tools; cp $(command -v mountclean) root/tools/; {way} sh -ec 'mount --rbind root root; {before}; cd root; pivot_root . .; {after}'"
    ))
}

#[test]
fn after_a_pivot_of_ours_the_table_is_the_root_and_proc_alone() {
    for way in ways() {
        let work = scene();
        let inside = "mount | cut -d\" \" -f3 | xargs; set -- /proc/[0-9]*; echo $#; ls -d /..";
        work.sh(&format!("{way} pivot root -- mountclean -- sh -c '{inside}'")).expect(0, "/ /proc\n1\n/..\n");
    }
}

#[test]
fn after_a_pivot_root_by_hand_the_table_is_the_same() {
    for way in ways() {
        let work = scene();
        pivoted(&work, way, ":", "exec /tools/mountclean -- sh -c \"mount | cut -d\\\\  -f3 | xargs\"")
            .expect(0, "/ /proc\n");
        let put_old = format!(
            "{} sh -ec 'mount --rbind root root; cd root; pivot_root . mnt; cd /; exec /tools/mountclean -- sh -c \"mount | cut -d\\\\  -f3 | xargs; ls /mnt\"'",
            way.replace("--pid", "--pid --mount")
        );
        work.sh(&put_old).expect(0, "/ /proc\n");
    }
}

#[test]
fn a_held_directory_of_the_hosts_is_found_on_any_descriptor() {
    for way in ways() {
        for number in [0, 1, 2, 3, 9] {
            let work = scene();
            let redirection = if number == 9 { String::new() } else { format!("{number}<&9 9<&-") };
            let after = format!("exec /tools/mountclean -- {COMMAND} {redirection}");
            let outcome = pivoted(&work, way, "exec 9<.", &after);
            assert_eq!((outcome.status, outcome.stdout.as_str()), (125, ""), "{number}: {}", outcome.stderr);
            if number != 2 {
                assert!(
                    outcome.stderr.contains(&format!("descriptor {number} is a directory outside the root")),
                    "{number}: {}",
                    outcome.stderr
                );
            }
        }
    }
}

#[test]
fn a_descriptor_is_passed_on_when_it_is_named() {
    for way in ways() {
        let work = scene();
        pivoted(&work, way, "exec 9<.", &format!("exec /tools/mountclean --keep-fd 9 -- {COMMAND}"))
            .expect(0, "started\n");
        // Directories of the root's own are no doors, and files are data.
        pivoted(
            &work,
            way,
            "exec 8</etc/hostname",
            "exec 9</etc/../tmp; exec /tools/mountclean -- sh -c \"cat <&8 >/dev/null; echo started\"",
        );
    }
}

#[test]
fn a_namespace_or_process_on_a_descriptor_is_found() {
    for way in ways() {
        let work = scene();
        pivoted(&work, way, "exec 9</proc/self/ns/mnt", &format!("exec /tools/mountclean -- {COMMAND}"))
            .expect_refusal(&["mountclean: ", "descriptor 9 is a namespace outside the root", "hint: "]);
    }
}

/// mountclean is stopped by strace before it mounts its /proc; meanwhile a mount is made in its namespace.
#[test]
fn a_bind_of_the_host_in_the_root_that_no_pivot_of_ours_made_is_found() {
    needs_root!();
    if !chainroot_tests::have("strace") {
        chainroot_tests::skip!("needs strace");
    }
    // Over the root itself, where the host's tree is gone already: there is nothing that would go along.
    let over = "something was mounted over the root after the pivot";
    for (what, target, named, between) in [
        ("a directory", "/mnt", "left at /mnt", ""),
        ("what is busy", "/bin", "left at /bin", ""),
        ("on a volume", "/var/sub", "left at /var/sub", ""),
        ("beside the root", "/", over, "isolate --uts --"),
    ] {
        let work = scene();
        work.sh("mkdir -p data/sub");
        let mut strace = work.command("strace");
        strace
            .args(["-o", "log", "-e", "trace=fsopen", "-e", "inject=fsopen:signal=SIGSTOP"])
            .args(["pivot", "--bind", "data:/var", "root", "--"])
            .args(between.split_ascii_whitespace())
            .args(["mountclean", "--", "echo", "started"])
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let child = strace.spawn().unwrap();
        let read = |file: String| std::fs::read_to_string(file).unwrap_or_default();
        let stopped = || {
            let traced = read(format!("/proc/{0}/task/{0}/children", child.id())).trim().to_owned();
            let log = read(work.join("log").display().to_string());
            // Before Linux 6.14 comm is the number of the descriptor that it was started by.
            let is_mountclean = read(format!("/proc/{traced}/cmdline")).starts_with("mountclean\0");
            (is_mountclean && log.contains("stopped by SIGSTOP")).then_some(traced)
        };
        work.wait_until("mountclean to be stopped", || stopped().is_some());
        let pid = stopped().unwrap();
        // While the host's tree is stacked on it, the container's root is reached by way of the process.
        let target = if between.is_empty() { format!("/proc/{pid}/root{target}") } else { target.to_owned() };
        work.sh(&format!(
            "nsenter --target {pid} --mount mount --no-canonicalize --bind /etc {target} && kill -CONT {pid}"
        ))
        .expect(0, "");
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(125), &b""[..]), "{what}: {stderr}");
        assert!(stderr.contains(named), "{what}: {stderr}");
    }
}

#[test]
fn what_came_along_with_the_root_passes() {
    for way in ways() {
        let work = scene();
        let way = way.replace("--pid", "--pid --mount");
        work.sh(&format!(
            "{way} sh -ec 'mount --rbind root root; mount --rbind /etc root/mnt; exec pivot root -- mountclean -- ls /mnt/hostname'"
        ))
        .expect(0, "/mnt/hostname\n");
    }
}

/// Nobody's word is taken for the carry but in the namespace that it names.
#[test]
fn a_carry_that_names_another_namespace_counts_for_nothing() {
    needs_root!();
    let work = scene();
    for carry in ["mntns=1;host=stacked", "mntns=99999999999;host=gone;mounts=1,2,3", "host=gone"] {
        let script = format!(
            "before=$(cat /proc/self/mountinfo); CHAINROOT_CARRY='{carry}' mountclean -- true; [ \"$before\" = \"$(cat /proc/self/mountinfo)\" ] && echo same"
        );
        work.sh(&format!("isolate --pid --mount -- sh -c '{}'", script.replace('\'', "'\\''"))).expect(0, "same\n");
    }
}

#[test]
fn what_pivot_made_on_request_passes() {
    for way in ways() {
        let work = scene();
        work.sh("mkdir -p data/sub; touch data/f");
        let mounted = way.replace("--pid", "--pid --mount");
        let volumes = "--bind data:/mnt --tmpfs /tmp --dev --etc resolv,hosts,hostname";
        let options = ["", "--read-only", "--ephemeral", "--overlay changes", "--keep-host", "--put-old /sbin"];
        for option in options.into_iter().filter(|option| has_overlay_for(way, option)) {
            let script = format!(
                "{mounted} sh -ec 'mount -t tmpfs tmpfs data/sub; exec pivot {option} {volumes} root -- mountclean -- sh -c \"ls /mnt; grep -c /mnt/sub /proc/self/mountinfo\"'"
            );
            work.sh(&script).expect(0, "f\nsub\n1\n");
        }
    }
}

/// The mounts of a copied mount namespace have other ids.
#[test]
fn what_pivot_made_passes_in_a_copy_of_its_namespace_and_nothing_else_does() {
    if !chainroot_tests::kernel_at_least(6, 8) {
        chainroot_tests::skip!("without a /proc this kernel lists no mounts, so that isolate finds none again");
    }
    for way in ways() {
        let work = scene();
        work.sh("mkdir -p data/sub other; touch data/f other/o");
        let mounted = way.replace("--pid", "--pid --mount");
        // In a user namespace the host's proc has to be there for a new one.
        let keep = if way.contains("user") { "--keep-host" } else { "" };
        let volumes = "--bind data:/mnt --bind other:/mnt --tmpfs /tmp --dev --etc resolv,hosts,hostname";
        for isolate in ["--mount", "--mount --fork", "--pid --mount", "--uts"] {
            for option in ["", "--ephemeral", "--read-only", "--keep-host"] {
                let option = if option.is_empty() { keep } else { option };
                if way.contains("user") && option != keep && option != "--keep-host" {
                    continue;
                }
                let script = format!(
                    "{mounted} sh -ec 'mount -t tmpfs tmpfs data/sub; exec pivot {option} {volumes} root -- isolate {isolate} -- mountclean -- sh -c \"ls /mnt; cut -d\\  -f5 /proc/self/mountinfo | sort | uniq -c | grep /mnt | xargs\"'"
                );
                work.sh(&script).expect(0, "o\n2 /mnt 1 /mnt/sub\n");
            }
        }
        // At the same place, and not pivot's.
        work.sh(&format!(
            "{way} pivot --keep-host --bind data:/mnt root -- isolate --mount --mount-proc=/mnt -- mountclean -- {COMMAND}"
        ))
        .expect_refusal(&["a mount that is not the container's is left at /mnt", "hint: "]);
        // In a namespace that is not private it is as if nobody had pivoted.
        if !way.contains("user") {
            work.sh(&format!(
                "{way} pivot --bind data:/mnt root -- isolate --mount --propagation slave -- mountclean -- sh -c 'ls /mnt; mount | wc -l'"
            ))
            .expect(0, "2\n");
        }
    }
}

#[test]
fn a_working_directory_in_the_old_root_is_found() {
    for way in ways() {
        let work = scene();
        // The shell's directory is not the old root itself, so pivot_root leaves it there.
        let way = way.replace("--pid", "--pid --mount");
        work.sh("mkdir -p root/tools && cp $(command -v mountclean) root/tools/");
        let script = format!(
            "{way} sh -ec 'mount --rbind root root; cd /etc; pivot_root {root} {root}; exec /tools/mountclean -- {COMMAND}'",
            root = work.join("root").display()
        );
        work.sh(&script).expect_refusal(&["mountclean: ", "the working directory is in the host's tree", "hint: "]);
    }
}

#[test]
fn a_chroot_is_refused_whether_it_is_a_mount_or_not() {
    needs_root!();
    let work = scene();
    work.sh("mkdir -p root/tools && cp $(command -v mountclean) root/tools/");
    work.sh(&format!("isolate --pid -- chroot root /tools/mountclean -- {COMMAND}")).expect_refusal(&[
        "mountclean: ",
        "chroot",
        "hint: ",
    ]);
    work.sh(&format!(
        "isolate --pid --mount -- sh -ec 'mount --rbind root root; exec chroot root /tools/mountclean -- {COMMAND}'"
    ))
    .expect_refusal(&["mountclean: ", "chroot", "hint: use pivot"]);
}

#[test]
fn a_chroot_in_a_user_namespace_is_refused() {
    let work = scene();
    work.sh("mkdir -p root/tools && cp $(command -v mountclean) root/tools/");
    let outcome = work.sh(&format!(
        "isolate --user --map-root --pid --mount -- sh -ec 'mount --rbind root root; exec chroot root /tools/mountclean -- {COMMAND}'"
    ));
    assert_eq!((outcome.status, outcome.stdout.as_str()), (125, ""), "{}", outcome.stderr);
}

#[test]
fn mounts_are_kept_only_by_name() {
    for way in ways() {
        let work = scene();
        let plant = "mount -t tmpfs tmpfs root/mnt; mkdir root/mnt/x; mount -t tmpfs tmpfs root/mnt/x; mount -t tmpfs tmpfs root/tmp";
        let table = "sh -c \"mount | cut -d\\\\  -f3 | sort | xargs\"";
        pivoted(&work, way, plant, &format!("exec /tools/mountclean --keep-mount /mnt/ -- {table}"))
            .expect(0, "/ /mnt /mnt/x /proc\n");
        pivoted(&work, way, plant, &format!("exec /tools/mountclean --keep-mount /mnt/x -- {table}"))
            .expect_refusal(&["left at /mnt", "--keep-mount /mnt lets it stay"]);
        pivoted(&work, way, plant, &format!("exec /tools/mountclean -- {table}")).expect(0, "/ /proc\n");
    }
}

#[test]
fn where_processes_of_the_host_can_be_seen_it_says_so() {
    needs_root!();
    let work = scene();
    let outcome = work.sh("pivot root -- mountclean -- echo started");
    outcome.expect(0, "started\n");
    assert!(outcome.stderr.contains("/root leads to the host's tree"), "{}", outcome.stderr);
    assert_eq!(work.sh("isolate --pid -- pivot root -- mountclean -- true").stderr, "");
}

/// The example of the manual.
#[test]
fn it_can_be_started_from_the_tree_that_it_takes_off() {
    for way in ways() {
        let work = scene();
        let way = way.replace("--pid", "--pid --mount");
        work.sh(&format!(
            "{way} sh -c 'm=$(command -v mountclean); mount --rbind root root; cd root; pivot_root . .; exec \"/..$m\" -- sh -c \"mount | wc -l; cat /etc/image\"'"
        ))
        .expect(0, "2\nbusybox\n");
    }
}

#[test]
fn a_reaper_that_keeps_the_hosts_root_is_refused_and_the_spelling_that_works_is_named() {
    let work = scene();
    for way in ways() {
        let init = way.replace("--pid", "--pid --init");
        for pivot in [
            "sh -c \"exec pivot root -- mountclean -- echo started\"",
            "$(command -v pivot) root -- mountclean -- echo started",
            "env pivot root -- mountclean -- echo started",
            "timeout 60 pivot root -- mountclean -- echo started",
            "sh -c \"env timeout 60 sh -c 'exec pivot root -- mountclean -- echo started'\"",
        ] {
            work.sh(&format!("{init} {pivot}"))
                .expect_refusal(&["PID 1 of this pid namespace", "isolate --init -- pivot ROOT -- mountclean"]);
        }
        work.sh(&format!("{init} pivot root -- mountclean -- echo started")).expect(0, "started\n");
    }
}

/// podman and buildah leave CAP_SYS_CHROOT out, without which setns(2) enters no mount namespace.
/// https://github.com/containers/common/pull/1373
#[test]
fn without_cap_sys_chroot_the_proof_holds() {
    needs_root!();
    let work = scene();
    let without = "isolate --cap-drop SYS_CHROOT -- isolate --pid --";
    work.sh(&format!("{without} pivot root -- mountclean -- echo started")).expect(0, "started\n");
    work.sh(&format!("{without} pivot root -- echo started")).expect(0, "started\n");
}

#[test]
fn without_cap_sys_chroot_and_user_namespaces_it_says_so() {
    let work = scene();
    let inner = "isolate --cap-drop SYS_CHROOT -- pivot root -- mountclean -- echo started";
    let line = format!("echo 0 >/proc/sys/user/max_user_namespaces; exec {inner}");
    let outcome = work.sh(&format!("isolate --map-root --pid --mount-proc sh -ec '{line}'"));
    assert_eq!((outcome.status, outcome.stdout.as_str()), (125, ""), "{outcome:?}");
    for words in [
        "find out whether this is a chroot",
        "hint: this takes CAP_SYS_CHROOT, or a kernel that allows user namespaces",
    ] {
        assert!(outcome.stderr.contains(words), "{outcome:?}");
    }
}

#[test]
fn behind_another_pivot_no_file_or_socket_of_the_hosts_is_left_open() {
    if !chainroot_tests::have("bash") {
        chainroot_tests::skip!("no bash");
    }
    for way in ways() {
        let work = scene();
        let line = format!(
            "mkdir -p root/tools; cp $(command -v mountclean) root/tools/; echo secret >secret
             {} sh -ec 'mount --rbind root root; cd root; pivot_root . .; exec /tools/mountclean OPTIONS -- sh -c \"ls /proc/self/fd; cat <&8\"' 7>>secret 8<secret 9</dev/null",
            way.replace("--pid", "--pid --mount")
        );
        let closed = work.sh(&line.replace("OPTIONS", ""));
        assert!(closed.stdout.starts_with("0\n1\n2\n3\n") && !closed.stdout.contains("secret"), "{closed:?}");
        let kept = work.sh(&line.replace("OPTIONS", "--keep-fd 8"));
        kept.expect(0, "0\n1\n2\n3\n8\nsecret\n");
    }
}
