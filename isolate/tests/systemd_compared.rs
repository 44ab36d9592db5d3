//! The same limits from isolate, systemd-run, runc and crun, where systemd owns the cgroups: the same values in the kernel, the
//! same end of what goes beyond them, and nothing left. scripts/test-systemd boots a machine for these.

mod bench;

use bench::systemd::here;
use bench::{Outcome, have};

/// Runs the script with `each WHO` in it for each of the four: what runs `$command` by sh under 64 MB of memory without swap, 20
/// processes and half a processor. `$name` is in the command.
fn each_of_the_four(script: &str) -> Outcome {
    here(&format!(
        r#"cd $(mktemp -d); name=isolate-test-four-$$
        user= systemctl=systemctl rootless= slice=system.slice
        [ $(id -u) = 0 ] || {{ user=--user slice=user.slice systemctl='systemctl --user' rootless=--rootless; }}
        mkdir -p rootfs/bin rootfs/dev; cp $(command -v busybox) rootfs/bin/
        for applet in sh sleep cat dd; do ln -s busybox rootfs/bin/$applet; done
        bundle() {{ # RUNTIME
            rm -f config.json; $1 spec $rootless && COMMAND="$command" GROUP=$slice:isolate:$name-$1 python3 - <<'END'
import json, os
spec = json.load(open('config.json'))
spec['process'].update(terminal=False, args=['/bin/sh', '-c', os.environ['COMMAND']])
spec['linux'].setdefault('resources', {{}}).update(memory={{'limit': 64 << 20, 'swap': 64 << 20}}, pids={{'limit': 20}},
    cpu={{'quota': 50000, 'period': 100000}})
spec['linux']['cgroupsPath'] = os.environ['GROUP']
json.dump(spec, open('config.json', 'w'))
END
        }}
        each() {{
            case $1 in
            isolate) $ISOLATE $U --memory 64M --pids-max 20 --cpus 0.5 -- busybox sh -c "$command" ;;
            systemd) systemd-run $user --quiet --wait --pipe --collect -p MemoryMax=64M -p MemorySwapMax=0 -p TasksMax=20 \
                -p CPUQuota=50% -p OOMPolicy=continue -- busybox sh -c "$command" ;;
            *) bundle $1 && $1 --systemd-cgroup run $name-$1 ;;
            esac
        }}
        {script}
        find /sys/fs/cgroup -name "*$name*"; cd /; rm -r $OLDPWD"#
    ))
}

/// Whom to compare with here.
fn peers() -> Vec<&'static str> {
    ["isolate", "systemd", "runc", "crun"]
        .into_iter()
        .filter(|who| matches!(*who, "isolate" | "systemd") || have(who))
        .collect()
}

#[test]
fn are_the_same_values_in_the_kernel_and_stay_so_when_systemd_reloads() {
    needs_systemd!();
    let outcome = each_of_the_four(&format!(
        r#"limits() {{
            group=/sys/fs/cgroup$(sed 's/0:://' /proc/$pid/cgroup)
            until [ "$(cat $group/memory.max)" != max ]; do group=${{group%/*}}; done
            for file in memory.max memory.swap.max pids.max cpu.max; do
                echo $who $(cat $group/$file)
            done
        }}
        for who in {}; do
            mkfifo up down; command="echo $name-$who; read x"
            each $who <down >up & exec 3>down; read x <up
            pid=$(pgrep -n -f "$name-$who; read x")
            limits; $systemctl daemon-reload; limits
            echo >&3; exec 3>&-; wait; rm up down
        done"#,
        peers().join(" ")
    ));
    let lines = |who: &str| {
        ["67108864", "0", "20", "50000 100000"].iter().map(|value| format!("{who} {value}\n")).collect::<String>()
    };
    for who in peers() {
        let own = outcome.stdout.lines().filter(|line| line.starts_with(who));
        let own = own.map(|line| format!("{line}\n")).collect::<Vec<_>>();
        let (before, after) = own.split_at(own.len() / 2);
        assert_eq!(before.concat(), lines(who), "{outcome:?}");
        // https://github.com/opencontainers/cgroups/issues/74: runc does not tell systemd of a limit of swap that is 0, which
        // the reload then takes away.
        if who != "runc" {
            assert_eq!(after.concat(), lines(who), "{outcome:?}");
        }
    }
}

#[test]
fn let_as_many_processes_start_and_end_what_uses_too_much_memory() {
    needs_systemd!();
    let outcome = each_of_the_four(&format!(
        r#"for who in {}; do
            # One of the twenty is the shell.
            command='while sleep 1000 & do echo; done'; echo $who $(each $who 2>/dev/null | wc -l)
            command='dd if=/dev/zero of=/dev/null bs=200M count=1; echo $?'; echo $who $(each $who)
        done"#,
        peers().join(" ")
    ));
    let expected = peers().into_iter().map(|who| format!("{who} 19\n{who} 137\n")).collect::<String>();
    assert_eq!(outcome.stdout, expected, "{outcome:?}");
    assert!(outcome.stderr.contains("limit of memory was reached: the kernel killed 1 process"), "{outcome:?}");
}
