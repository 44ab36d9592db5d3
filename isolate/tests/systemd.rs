//! Limits where systemd owns the cgroups: in units with and without delegation, as root and as a user
//! with a session. scripts/test-systemd boots a machine for these.

mod bench;

use std::path::Path;
use std::process::Command;

use bench::{ISOLATE, Outcome, have, is_root};

/// Ends the test where systemd does not run, or not with version 2 of cgroups alone.
macro_rules! needs_systemd {
    () => {
        if !Path::new("/run/systemd/system").exists() || !Path::new("/sys/fs/cgroup/init.scope").exists() {
            skip!("no systemd on version 2 of cgroups (scripts/test-systemd boots one)");
        }
    };
}

/// Runs a script in a unit of its own: root's, or the user's own manager's.
fn unit(properties: &[&str], script: &str) -> Outcome {
    let mut command = Command::new("systemd-run");
    if !is_root() {
        command.arg("--user");
    }
    command.args(["--quiet", "--wait", "--pipe", "--collect", "-E"]).arg(format!("ISOLATE={ISOLATE}"));
    command.args(["-E", if is_root() { "U=" } else { "U=--map-root" }]);
    command.args(["-E", if is_root() { "SYSTEMCTL=systemctl" } else { "SYSTEMCTL=systemctl --user" }]);
    command.args(properties.iter().map(|property| format!("--property={property}")));
    // Not on the command line, where a dollar is a variable (systemd.service(5)), and two of them are, once another
    // test has systemd reload the unit.
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&file, script).expect("write");
    command.args(["--", "timeout", "-v", "60", "sh"]).arg(file.path());
    Outcome::of(command.output().expect("systemd-run starts"))
}

/// As the tests are run: in a group that is delegated.
fn here(script: &str) -> Outcome {
    let mut command = Command::new("timeout");
    command.args(["-v", "60", "sh", "-c", script]).env("ISOLATE", ISOLATE);
    command.env("U", if is_root() { "" } else { "--map-root" });
    Outcome::of(command.output().expect("sh starts"))
}

/// Uses 200 MB.
const HOG: &str = "busybox dd if=/dev/zero of=/dev/null bs=200M count=1";

/// https://github.com/podman-container-tools/podman/issues/8330, https://github.com/podman-container-tools/podman/issues/7938
#[test]
fn in_a_unit_without_delegation_a_limit_is_refused_and_the_way_is_named() {
    needs_systemd!();
    let outcome = unit(
        &[],
        "$ISOLATE $U --pids-max 5 true; status=$?; ls -d /sys/fs/cgroup/isolate-* \
        /sys/fs/cgroup$(sed s/0::// /proc/self/cgroup)/isolate-* 2>/dev/null; exit $status",
    );
    assert_eq!(outcome.stdout, "");
    let scope =
        if is_root() { "systemd-run --scope -p Delegate=yes" } else { "systemd-run --user --scope -p Delegate=yes" };
    assert!(outcome.stderr.contains("Delegate=yes in the unit") && outcome.stderr.contains(scope), "{outcome:?}");
    outcome.refused("systemd has not delegated this cgroup");
}

#[test]
fn the_way_that_the_refusal_names_works() {
    needs_systemd!();
    let user = if is_root() { "" } else { "--user" };
    let outcome = here(&format!(
        "systemd-run {user} --quiet --scope -p Delegate=yes -- $ISOLATE $U --pids-max 7 -- \
            sh -c 'cat /sys/fs/cgroup$(sed s/0::// /proc/self/cgroup)/../pids.max'"
    ));
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, "7\n"), "{outcome:?}");
}

#[test]
fn a_script_in_a_delegated_unit_may_limit_and_does_not_leave_its_unit() {
    needs_systemd!();
    let script = "own=$(cat /proc/self/cgroup)
        for limit in '--pids-max 50' '--memory 64M'; do
            inner=$($ISOLATE $U $limit -- cat /proc/self/cgroup)
            case $inner in $own/isolate-*/command) echo inside ;; *) echo $inner is not in $own ;; esac
        done
        # Nothing is left, but for the leaf that this script was moved to.
        ls -d /sys/fs/cgroup${own#0::}/isolate-[0-9]* 2>/dev/null; :";
    let outcome = unit(&["Delegate=yes"], script);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, "inside\ninside\n"), "{outcome:?}");
}

#[test]
fn a_caller_without_an_environment_may_limit_all_the_same() {
    needs_systemd!();
    // The second time in the leaf that the first has moved the script to.
    let script = "for time in first second; do env -i PATH=$PATH $ISOLATE $U --pids-max 50 -- echo $time; done";
    let outcome = unit(&["Delegate=yes"], script);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("first\nsecond\n", ""), "{outcome:?}");
}

/// The first to limit in a unit moves the unit's processes; a command that is in its limited group by then stays there.
#[test]
fn limits_that_start_side_by_side_all_hold() {
    needs_systemd!();
    let script = "unit=/sys/fs/cgroup$(sed 's/0:://' /proc/self/cgroup)
        for round in 1 2 3 4; do
            for one in 1 2 3 4 5 6; do $ISOLATE $U --pids-max 50 -- cat /proc/self/cgroup & done; wait
            # As it was before the first one.
            for controller in pids memory cpu; do echo -$controller; done >$unit/cgroup.subtree_control
            for pid in $(cat $unit/isolate-waiting/cgroup.procs); do echo $pid >$unit/cgroup.procs; done 2>/dev/null
        done";
    let outcome = unit(&["Delegate=yes"], script);
    let inside = outcome.stdout.lines().filter(|line| line.contains("/isolate-") && line.ends_with("/command")).count();
    assert_eq!((inside, outcome.stdout.lines().count(), outcome.stderr.as_str()), (24, 24, ""), "{outcome:?}");
}

#[test]
fn the_units_own_limits_hold_for_what_is_limited_in_it() {
    needs_systemd!();
    // More than the unit may use, and less than isolate would allow.
    let script = format!("$ISOLATE $U --memory 1500M -- {HOG}; echo $?");
    let outcome = unit(&["Delegate=yes", "MemoryMax=100M", "MemorySwapMax=0", "OOMPolicy=continue"], &script);
    assert_eq!(outcome.stdout, "137\n", "{outcome:?}");
    let forks = "i=0; while [ $i -lt 30 ]; do sleep 1000 & i=$((i + 1)); done 2>/dev/null; echo all of them";
    let script = format!("$ISOLATE $U --pids-max 1000 -- sh -c '{forks}'; :");
    let outcome = unit(&["Delegate=yes", "TasksMax=20"], &script);
    assert_eq!(outcome.stdout, "", "{outcome:?}");
}

#[test]
fn stopping_a_unit_ends_what_is_limited_in_it() {
    needs_systemd!();
    let name = format!("isolate-test-stop-{}", std::process::id());
    let user = if is_root() { "" } else { "--user" };
    let outcome = here(&format!(
        "dir=$(mktemp -d); mkfifo $dir/up
        systemd-run {user} --quiet --collect --unit={name} -p Delegate=yes -- \
            sh -c \"$ISOLATE $U --pids-max 50 -- sh -c 'echo \\$\\$ >$dir/up; exec sleep 1000'; :\"
        read pid <$dir/up
        group=$(systemctl {user} show -P ControlGroup {name})
        [ -d /sys/fs/cgroup$group ] && echo started
        systemctl {user} stop {name}
        [ -d /sys/fs/cgroup$group ] || echo gone; kill -0 $pid 2>/dev/null || echo ended; rm -r $dir"
    ));
    assert_eq!(outcome.stdout, "started\ngone\nended\n", "{outcome:?}");
}

/// https://github.com/moby/moby/issues/51446, https://github.com/moby/moby/issues/41233,
/// https://github.com/opencontainers/runc/issues/1605, https://github.com/containers/crun/issues/1011
#[test]
fn reloading_systemd_and_setting_properties_leaves_a_limit_where_it_is() {
    needs_systemd!();
    let script = "dir=$(mktemp -d); mkfifo $dir/up $dir/down
        $ISOLATE $U --pids-max 50 --memory 100M -- sh -c \"cat /proc/self/cgroup >$dir/group; echo >$dir/up; read x <$dir/down\" &
        read x <$dir/up
        group=/sys/fs/cgroup$(sed 's/0:://' $dir/group)/..
        unit=$(sed 's/0:://; s|/isolate-.*||; s|.*/||' $dir/group)
        cat $group/pids.max $group/memory.max
        $SYSTEMCTL daemon-reload
        $SYSTEMCTL set-property --runtime $unit TasksMax=200 MemoryMax=500M CPUWeight=50
        cat $group/pids.max $group/memory.max
        echo >$dir/down; wait; rm -r $dir";
    let outcome = unit(&["Delegate=yes"], script);
    assert_eq!(outcome.stdout, "50\n104857600\n50\n104857600\n", "{outcome:?}");
}

#[test]
fn a_limit_ends_a_process_as_systemd_and_the_runtimes_end_it() {
    needs_systemd!();
    if !have("busybox") {
        skip!("no busybox");
    }
    let ours = here(&format!("$ISOLATE $U --memory 64M -- {HOG}"));
    assert_eq!(ours.status, 137, "{ours:?}");
    assert!(ours.stderr.contains("limit of memory was reached: the kernel killed 1 process"), "{ours:?}");
    // systemd-run has 1 for every signal: so it is the shell that says it.
    let limits = ["MemoryMax=64M", "MemorySwapMax=0", "OOMPolicy=continue"];
    let systemds = unit(&limits, &format!("{HOG}; echo $?"));
    assert_eq!(systemds.stdout, "137\n", "{systemds:?}");
    for (runtime, options) in [("runc", "--systemd-cgroup"), ("crun", "--systemd-cgroup")] {
        if !have(runtime) || !is_root() {
            continue;
        }
        let outcome = here(&format!(
            "set -e; dir=$(mktemp -d); cd $dir; mkdir -p rootfs/bin rootfs/dev; cp $(command -v busybox) rootfs/bin/
            ln -s busybox rootfs/bin/dd; {runtime} spec
            python3 - <<'END'
import json
spec = json.load(open('config.json'))
spec['process'].update(terminal=False, args='dd if=/dev/zero of=/dev/null bs=200M count=1'.split())
spec['linux']['resources']['memory'] = {{'limit': 64 << 20, 'swap': 64 << 20}}
spec['linux']['cgroupsPath'] = 'system.slice:isolate:test-{runtime}'
json.dump(spec, open('config.json', 'w'))
END
            set +e; {runtime} {options} run isolate-test-{runtime}; status=$?; cd /; rm -r $dir; exit $status"
        ));
        assert_eq!(outcome.status, 137, "{runtime}: {outcome:?}");
    }
}
