//! What is mounted, what is unmounted, and where.

use chainroot_tests::needs_root;
use chainroot_tests::scene::{scene, ways};

#[test]
fn without_a_pivot_everything_but_the_root_and_proc_goes() {
    needs_root!();
    let work = scene();
    work.sh("isolate --pid -- mountclean -- sh -c 'mount | cut -d\" \" -f3 | xargs; ls /sys | wc -l; echo $$'")
        .expect(0, "/ /proc\n0\n1\n");
    work.sh("isolate --pid --mount -- mountclean -- sh -c 'mount | cut -d\" \" -f3 | xargs'").expect(0, "/ /proc\n");
    work.sh("unshare --pid --fork --kill-child mountclean -- sh -c 'mount | cut -d\" \" -f3 | xargs'")
        .expect(0, "/ /proc\n");
}

#[test]
fn without_a_pivot_in_a_user_namespace_it_says_what_to_use() {
    let work = scene();
    work.sh("isolate --user --map-root --pid -- mountclean -- echo started").expect_refusal(&[
        "mountclean: ",
        "locked in a user namespace",
        "hint: pivot",
    ]);
}

#[test]
fn without_an_own_pid_namespace_in_a_user_namespace_it_says_what_to_add() {
    let work = scene();
    work.sh("isolate --user --map-root -- pivot root -- mountclean -- echo started").expect_refusal(&[
        "mountclean: ",
        "not permitted",
        "hint: ",
        "isolate --user --map-root --pid",
    ]);
}

#[test]
fn behind_another_link_in_a_user_namespace_the_kernel_refuses_proc_and_it_says_why() {
    let work = scene();
    work.sh("isolate --user --map-root --pid -- pivot root -- isolate -- mountclean -- echo started")
        .expect_refusal(&["mountclean: ", "hint: ", "follow pivot directly"]);
}

#[test]
fn without_privilege_it_says_what_gives_it() {
    needs_root!();
    let work = scene();
    work.sh("setpriv --reuid=65534 --clear-groups mountclean -- echo started").expect_refusal(&[
        "mountclean: ",
        "new mount namespace",
        "isolate --user --map-root",
    ]);
}

/// With shared propagation an unmount inside is one outside.
#[test]
fn nothing_is_ever_unmounted_outside() {
    needs_root!();
    let work = scene();
    for chain in
        ["mountclean -- true", "pivot root -- mountclean -- true", "pivot --put-old /mnt root -- mountclean -- true"]
    {
        let script = format!(
            "mount --make-rshared /; before=$(cat /proc/self/mountinfo); {chain} || exit; [ \"$before\" = \"$(cat /proc/self/mountinfo)\" ] && echo same"
        );
        work.sh(&format!("unshare --mount sh -c '{script}' 2>/dev/null")).expect(0, "same\n");
    }
}

#[test]
fn proc_options_reach_the_kernel_and_wrong_ones_are_explained() {
    for way in ways() {
        let work = scene();
        let mountclean = format!("{way} pivot root -- mountclean --proc-opts");
        work.sh(&format!("{mountclean} hidepid=2,gid=0 -- sh -c 'grep \" /proc \" /proc/self/mountinfo | grep -c -e hidepid=invisible -e hidepid=2'"))
            .expect(0, "1\n");
        if chainroot_tests::kernel_at_least(5, 8) {
            work.sh(&format!("{mountclean} subset=pid -- sh -c 'ls -d /proc/self /proc/cpuinfo 2>/dev/null'"))
                .expect(1, "/proc/self\n");
        }
        work.sh(&format!("{mountclean} hidepid=77 -- echo started"))
            .expect_refusal(&["hidepid=77", "hint: the kernel knows"]);
        work.sh(&format!("{mountclean} nonsense -- echo started"))
            .expect_refusal(&["nonsense", "hint: the kernel knows"]);
    }
}

#[test]
fn proc_is_the_only_place_that_no_link_of_the_image_moves() {
    for way in ways() {
        let work = scene();
        work.sh("rmdir root/proc && ln -s ../../../../../../../../tmp root/proc");
        work.sh(&format!("{way} pivot root -- mountclean -- echo started"))
            .expect_refusal(&["/proc: not a directory", "hint: "]);
        work.sh("rm root/proc; rmdir root/sys && ln -s ../../../../../../../../tmp root/sys");
        let with_net = way.replace("--pid", "--pid --net");
        work.sh(&format!("{with_net} pivot root -- mountclean -- echo started")).expect(0, "started\n");
        work.sh(&format!("{with_net} pivot root -- mountclean --sys -- echo started"))
            .expect_refusal(&["/sys: not a directory"]);
        work.sh("ls -d root/proc").expect(0, "root/proc\n");
    }
}

#[test]
fn a_sys_is_mounted_for_an_own_net_namespace_only() {
    for way in ways() {
        let work = scene();
        let own = way.replace("--pid", "--pid --net");
        work.sh(&format!("{own} pivot root -- mountclean --sys -- ls /sys/class/net")).expect(0, "lo\n");
        work.sh(&format!("{way} pivot root -- mountclean --sys -- echo started"))
            .expect_refusal(&["/sys would be the host's", "--sys=ro"]);
        work.sh(&format!("{way} pivot root -- mountclean --sys=ro -- sh -c 'ls /sys/class/net >/dev/null && touch /sys/x 2>/dev/null || echo read-only'"))
            .expect(0, "read-only\n");
    }
}

/// What moby and podman hide beyond what runc 1.1, which is installed, writes into a new specification.
const ADDED_SINCE: [&str; 3] = ["/proc/interrupts", "/sys/devices/virtual/powercap", "/sys/fs/selinux"];

/// The lists that runc writes into a new specification, and what engines have added to them since.
#[test]
fn the_masks_are_those_of_runc_path_by_path() {
    let work = scene();
    let spec = if chainroot_tests::have("runc") {
        work.sh("runc spec && cat config.json").stdout
    } else {
        chainroot_tests::skip!("needs runc");
    };
    let list = |key: &str| -> Vec<String> {
        let after = spec.split(&format!("\"{key}\": [")).nth(1).expect(key);
        after.split(']').next().unwrap().split('"').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let (mut masked, read_only) = (list("maskedPaths"), list("readonlyPaths"));
    masked.extend(ADDED_SINCE.iter().filter(|path| !spec.contains(**path)).map(|path| path.to_string()));
    assert!(masked.len() > 5 && read_only.len() > 3);
    for way in ways() {
        // No /dev/null at all in this root.
        let work = scene();
        work.sh("rm -rf root/dev/null");
        let own = way.replace("--pid", "--pid --net");
        let points = work.sh(&format!(
            "{own} pivot root -- mountclean --sys --mask -- sh -c 'cut -d\" \" -f5,6 /proc/self/mountinfo'"
        ));
        assert_eq!(points.status, 0, "{}", points.stderr);
        let there = work.sh(&format!(
            "{own} pivot root -- mountclean --sys -- sh -c 'for p in {}; do [ -e $p ] && echo $p; done; :'",
            [masked.clone(), read_only.clone()].concat().join(" ")
        ));
        let mut expected: Vec<&str> = there.stdout.lines().collect();
        let mut made: Vec<&str> = points
            .stdout
            .lines()
            .map(|line| line.split(' ').next().unwrap())
            .filter(|point| !["/", "/proc", "/sys"].contains(point))
            .collect();
        expected.sort_unstable();
        made.sort_unstable();
        assert_eq!(made, expected);
        assert!(
            points
                .stdout
                .lines()
                .filter(|line| !line.starts_with("/ ") && !line.starts_with("/proc ") && !line.starts_with("/sys "))
                .all(|line| line.contains(" ro,"))
        );
        // Hidden is empty; read-only still reads.
        work.sh(&format!(
            "{own} pivot root -- mountclean --mask -- sh -c 'for p in {}; do if [ -d $p ]; then ls -A $p; elif [ -e $p ]; then cat $p; fi; done; \
             cat /proc/sys/kernel/ostype; (echo x >/proc/sys/kernel/domainname) 2>/dev/null || echo read-only'",
            masked.join(" ")
        ))
        .expect(0, "Linux\nread-only\n");
    }
}

/// What this machine has no file of is hidden all the same. https://github.com/advisories/GHSA-jq35-85cj-fj4p: the power
/// counters of sysfs tell what other programs compute.
#[test]
fn what_tells_of_the_hosts_heat_and_power_is_hidden() {
    for way in ways() {
        let work = scene();
        let places = "devices/virtual/powercap/intel-rapl firmware/efi fs/selinux/x devices/system/cpu/cpu0/thermal_throttle/x \
            devices/system/cpu/cpu11/thermal_throttle/x devices/system/cpu/cpufreq/x";
        work.sh(&format!("for place in {places}; do mkdir -p root/sys/$place; done")).expect(0, "");
        work.sh(&format!("{way} pivot root -- mountclean --mask -- sh -c 'cd /sys; ls -d {places} 2>/dev/null'"))
            .expect(1, "devices/system/cpu/cpufreq/x\n");
    }
}

/// A container of runc's own, looked at from inside: the same places, hidden or read-only as ours are.
#[test]
fn a_container_of_runcs_has_the_same_masks() {
    needs_root!();
    for program in ["runc", "python3"] {
        if !chainroot_tests::have(program) {
            chainroot_tests::skip!("needs {program}");
        }
    }
    let work = scene();
    // Each place that is a mount of its own below /proc, and /sys/firmware: what kind it is, whether anything is in it,
    // whether it may be written.
    let look = r#"while read -r _ _ _ _ point options _; do
        case $point in /proc/* | /sys/firmware*) ;; *) continue ;; esac
        case ,$options, in *,ro,*) mode=ro ;; *) mode=rw ;; esac
        if [ -d $point ]; then kind=directory; content=$(ls -A $point | head -c 1); else kind=file; content=; fi
        [ $kind$point != file/proc/sysrq-trigger ] && [ $kind = file ] && content=$(head -c 1 $point)
        echo $point $kind $mode ${content:+full}
    done </proc/self/mountinfo | sort"#;
    std::fs::write(work.join("look"), look).unwrap();
    let make = r#"set -e
        mkdir bundle; cp -a root bundle/rootfs; cp look root/; cp look bundle/rootfs/; cd bundle; runc spec
        python3 - <<'END'
import json
config = json.load(open("config.json"))
config["process"].update(terminal=False, args=["sh", "/look"])
masked = config["linux"]["maskedPaths"]
masked += {"/proc/interrupts"} - set(masked)
json.dump(config, open("config.json", "w"))
END"#;
    work.sh(make).expect(0, "");
    let theirs = work.sh("runc --root $PWD/state run --bundle bundle chainroot-masks-$$");
    let ours = work.sh("isolate --pid --net -- pivot root -- mountclean --sys --mask -- sh /look");
    assert_eq!((theirs.status, ours.status), (0, 0), "{}{}", theirs.stderr, ours.stderr);
    assert!(theirs.stdout.lines().count() > 6, "{}", theirs.stdout);
    // runc hides files with /dev/null, which is not marked read-only there: nothing can be written to it.
    let theirs = theirs.stdout.replace(" file rw\n", " file ro\n");
    assert_eq!(ours.stdout, theirs);
}

#[test]
fn arguments_reach_the_command_as_they_were_typed() {
    for way in ways() {
        let work = scene();
        work.sh(&format!("{way} pivot root -- mountclean echo --help -- --mask 'a  b'"))
            .expect(0, "--help -- --mask a  b\n");
        work.sh(&format!("{way} pivot root -- mountclean -- -x")).expect(127, "");
        work.with_input("sh", &format!("{way} pivot --no-handoff root -- mountclean"), b"echo shell\nexit 3\n")
            .expect(3, "shell\n");
    }
}

#[test]
fn the_explained_script_unmounts_the_same() {
    needs_root!();
    let table = "cut -d\" \" -f5 /proc/self/mountinfo | sort | xargs";
    for shell in ["dash", "bash"] {
        for options in ["", "--sys=ro --mask", "--keep-mount /dev --proc-opts hidepid=2"] {
            let work = scene();
            let real = work.sh(&format!("isolate --pid -- mountclean {options} -- sh -c '{table}'"));
            assert_eq!(real.status, 0, "{options}: {}", real.stderr);
            let explained = work.sh(&format!("mountclean --explain {options} -- sh -c '{table}'")).stdout;
            std::fs::write(work.join("script"), &explained).unwrap();
            let script = work.sh(&format!("unshare --pid --fork --kill-child {shell} script"));
            assert_eq!((script.status, &script.stdout), (0, &real.stdout), "{shell}: {}\n{explained}", script.stderr);
        }
    }
}

/// In a user namespace the kernel wants the atime flags of the proc that is there (MNT_LOCK_ATIME).
/// https://github.com/google/nsjail/issues/60
#[test]
fn a_proc_mounted_noatime_outside_is_no_hindrance_to_a_user() {
    needs_root!();
    let work = scene();
    for flags in ["noatime", "strictatime", "nodiratime", "noatime,nodiratime"] {
        let script = format!(
            "mount -t proc -o {flags},nosuid,nodev,noexec proc /proc; isolate --user --map-root --pid -- pivot root -- mountclean -- echo ran"
        );
        work.sh(&format!("unshare --mount sh -ec '{script}'")).expect(0, "ran\n");
    }
}

/// The rule for a new sysfs is the same, where --net gives the chain a network of its own.
#[test]
fn a_sys_keeps_times_of_access_as_the_one_outside() {
    needs_root!();
    let work = scene();
    for flags in ["noatime", "strictatime", "nodiratime", "noatime,nodiratime"] {
        let line = "isolate --user --map-root --pid --net -- pivot root -- mountclean --sys -- ls /sys/class/net";
        work.sh(&format!(
            "unshare --mount sh -ec 'mount -o remount,bind,{flags},nosuid,nodev,noexec /sys; exec {line}'"
        ))
        .expect(0, "lo\n");
    }
}

/// A user's container without a pid namespace gets no new proc from the kernel.
#[test]
fn a_users_container_can_share_the_hosts_proc() {
    let work = scene();
    let chain = |map: &str, options: &str, inside: &str| {
        work.sh(&format!("isolate {map} -- pivot root -- mountclean {options} -- sh -c '{inside}'"))
    };
    let fresh = chain("--map-root", "", "true");
    assert_eq!(fresh.status, 125, "{}", fresh.stderr);
    for map in ["--map-root", "--map-current"] {
        let outcome = chain(
            map,
            "--proc=bind",
            "echo $$; cut -d\" \" -f5 /proc/self/mountinfo | grep -v ^/proc/; test -d /proc/$PPID",
        );
        assert_eq!(outcome.status, 0, "{}", outcome.stderr);
        let lines: Vec<&str> = outcome.stdout.lines().collect();
        assert!(lines[0].parse::<u32>().is_ok_and(|pid| pid > 1) && lines[1..] == ["/", "/proc"], "{lines:?}");
    }
    work.sh("isolate --map-root --mount -- mountclean --proc=bind -- true")
        .expect_refusal(&["pivot has left", "pivot ROOT"]);
    work.sh("isolate --map-root -- pivot root -- mountclean --proc=bind --proc-opts subset=pid -- true")
        .expect_refusal(&["cannot be used with"]);
}
