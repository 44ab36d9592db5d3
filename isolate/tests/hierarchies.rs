//! Which version of control groups the limits go to, for whom, and what is said where there is none.

mod bench;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{XattrFlags, removexattr, setxattr};

use bench::{NOBODY, Outcome, isolate, sh};

/// Where version 2 is mounted, if it has this controller here.
fn unified(controller: &str) -> Option<PathBuf> {
    mounted("cgroup2", "").filter(|dir| words(dir, "cgroup.controllers").contains(&controller.to_owned()))
}

/// Where version 1 has this controller.
fn of_its_own(controller: &str) -> Option<PathBuf> {
    mounted("cgroup", controller)
}

fn mounted(kind: &str, option: &str) -> Option<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    table.lines().find_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        let mut back = back.split(' ');
        let ours = back.next() == Some(kind) && (option.is_empty() || back.nth(1)?.split(',').any(|o| o == option));
        ours.then(|| front.split(' ').nth(4).map(PathBuf::from)).flatten()
    })
}

fn words(dir: &Path, file: &str) -> Vec<String> {
    fs::read_to_string(dir.join(file)).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

#[test]
fn explain_says_which_version_is_used_for_what() {
    let outcome = isolate(["--explain", "--pids-max", "5", "--memory", "64M", "true"]);
    if outcome.status != 0 {
        skip!("{}", outcome.stderr);
    }
    for (controller, file) in [("pids", "echo 5 >"), ("memory", "echo 67108864 >")] {
        let version = if unified(controller).is_some() { "# cgroup version 2: " } else { "# cgroup version 1: " };
        let said = outcome.stdout.lines().any(|line| line.starts_with(version) && line.contains(controller));
        assert!(said && outcome.stdout.contains(file), "{controller}: {}", outcome.stdout);
    }
}

#[test]
fn version_1_alone_will_do() {
    needs_root!();
    if of_its_own("pids").is_none() {
        skip!("version 1 of cgroups is not here");
    }
    let outcome =
        sh("unshare --mount sh -c 'umount -a -l -t cgroup2 || exit; grep \" - cgroup2 \" /proc/self/mountinfo
        $ISOLATE --explain --pids-max 5 true | grep \"^# cgroup version\"
        exec $ISOLATE --pids-max 5 sh -c \": & : & : & : & : & : & echo all\"'");
    assert!(outcome.stdout.starts_with("# cgroup version 1: pids") && !outcome.stdout.contains("all"), "{outcome:?}");
    assert!(outcome.stderr.contains("limit of processes was reached"), "{outcome:?}");
}

/// mountinfo writes blanks as octal numbers.
#[test]
fn a_hierarchy_is_found_on_a_mount_point_with_blanks() {
    needs_root!();
    let (kind, option, version) = match (unified("pids"), of_its_own("pids")) {
        (Some(_), _) => ("cgroup2", "", 2),
        (None, Some(_)) => ("cgroup", "-o pids", 1),
        (None, None) => skip!("neither version 1 nor version 2 of cgroups has pids here"),
    };
    let outcome = sh(&format!(
        "unshare --mount sh -c 'umount -a -l -t cgroup,cgroup2; mount -t tmpfs tmpfs /mnt && mkdir \"/mnt/a b\" &&
        mount -t {kind} {option} none \"/mnt/a b\" && exec $ISOLATE --explain --pids-max 5 true'"
    ));
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(outcome.stdout.contains(&format!("# cgroup version {version}: pids")), "{outcome:?}");
    assert!(outcome.stdout.contains("'/mnt/a b"), "{outcome:?}");
}

#[test]
fn what_is_missing_is_said() {
    needs_root!();
    let without = |types: &str| {
        sh(&format!("unshare --mount sh -c 'umount -a -l -t {types} && exec $ISOLATE --pids-max 5 true'"))
    };
    without("cgroup,cgroup2").refused("no cgroups are mounted");
    if mounted("cgroup2", "").is_some() && unified("pids").is_none() {
        without("cgroup").refused("the cgroup controller pids is not handed down to this group");
    }
}

/// A group that was given to nobody, with everything in it.
struct Delegated(PathBuf);

impl Delegated {
    fn new(hierarchy: &Path, name: &str) -> Delegated {
        // The first run that sets limits may move the processes of its group, and so this test's shell, though it is on
        // its way to another.
        static MADE_ROOM: Once = Once::new();
        MADE_ROOM.call_once(|| drop(isolate(["--pids-max", "5", "true"])));
        let group = Delegated(hierarchy.join(format!("isolate-test-{name}-{}", std::process::id())));
        group.make(&group.0);
        setxattr(&group.0, "user.delegate", b"1", XattrFlags::empty()).expect("setxattr");
        group
    }

    fn make(&self, dir: &Path) {
        fs::create_dir(dir).expect("mkdir");
        chown(dir, Some(NOBODY), Some(NOBODY)).expect("chown");
        for file in ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "tasks"] {
            let _ = chown(dir.join(file), Some(NOBODY), Some(NOBODY));
        }
    }

    /// Runs a shell script as nobody in it, or in a group below it.
    fn run(&self, below: &str, script: &str) -> Outcome {
        let enter = "echo $$ >\"$0\"/cgroup.procs && cd / &&
            exec setpriv --reuid=$1 --regid=$1 --clear-groups sh -c \"$2\"";
        let output = Command::new("sh")
            .args(["-c", enter])
            .arg(self.0.join(below))
            .args([&NOBODY.to_string(), script])
            .env("ISOLATE", bench::ISOLATE)
            .output();
        Outcome::of(output.expect("sh starts"))
    }

    /// The groups that isolate made below it.
    fn left(&self) -> Vec<PathBuf> {
        let below = fs::read_dir(&self.0).expect("the group").flatten().map(|entry| entry.path());
        below.filter(|path| path.join("cgroup.procs").exists() && !path.ends_with("isolate-waiting")).collect()
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        // Processes leave a group a moment after their parents have waited for them.
        for dir in [self.0.join("below"), self.0.join("isolate-waiting"), self.0.clone()] {
            for _ in 0..1000 {
                match fs::remove_dir(&dir) {
                    Err(error) if error.kind() == ErrorKind::ResourceBusy => sleep(Duration::from_millis(1)),
                    _ => break,
                }
            }
        }
    }
}

/// A fork bomb within a limit.
const BOMB: &str = "exec $ISOLATE --map-root --pid --pids-max 8 -- sh -c 'f() { f | f; }; f; :'";

#[track_caller]
fn is_stopped_by_the_limit(outcome: &Outcome) {
    assert!(outcome.stderr.contains("limit of processes was reached"), "{outcome:?}");
}

#[test]
fn an_ordinary_user_limits_where_version_2_is_delegated() {
    needs_root!();
    let Some(hierarchy) = unified("pids") else { skip!("version 2 of cgroups has no controllers here") };
    if !words(&hierarchy, "cgroup.subtree_control").contains(&"pids".to_owned()) {
        skip!("version 2 of cgroups does not hand the controllers down");
    }
    // Marked as systemd marks it. As the only process of its group, which it has to leave first.
    let group = Delegated::new(&hierarchy, "alone");
    is_stopped_by_the_limit(&group.run("", BOMB));
    assert_eq!(group.left(), Vec::<PathBuf>::new());
    // In the company of others, which make room where the group was handed over with them. The first limit has left it as it
    // was: none may come back into a group that hands controllers down.
    is_stopped_by_the_limit(&group.run("", &format!(": & {BOMB}")));
    assert_eq!(group.left(), Vec::<PathBuf>::new());
    removexattr(&group.0, "user.delegate").expect("removexattr");
    if !hierarchy.join("init.scope").exists() {
        group
            .run("", "$ISOLATE --map-root --pids-max 8 true; exit $?")
            .refused("systemd-run --user --scope -p Delegate=yes");
    }
    // In a group below the one that can be divided, as in a user's session.
    let group = Delegated::new(&hierarchy, "session");
    group.make(&group.0.join("below"));
    fs::write(group.0.join("cgroup.subtree_control"), "+pids +memory +cpu").expect("controllers");
    is_stopped_by_the_limit(&group.run("below", &format!(": & {BOMB}")));
    let explained = group.run("below", "$ISOLATE --explain --map-root --pids-max 8 --memory 1G --cpus 1 true");
    assert!(explained.stdout.contains("# cgroup version 2: memory, cpu, pids"), "{explained:?}");
    assert_eq!(group.left(), [group.0.join("below")]);
}

#[test]
fn an_ordinary_user_limits_where_version_1_is_delegated() {
    needs_root!();
    let (Some(hierarchy), None) = (of_its_own("pids"), unified("pids")) else {
        skip!("version 1 of cgroups is not here")
    };
    let group = Delegated::new(&hierarchy, "user");
    is_stopped_by_the_limit(&group.run("", &format!(": & {BOMB}")));
    assert_eq!(group.left(), Vec::<PathBuf>::new());
}

#[test]
fn an_ordinary_user_without_a_group_is_told_how_to_get_one() {
    if isolate(["--explain", "--pids-max", "5", "true"]).status != 0 {
        skip!("no cgroup to limit in");
    }
    let outcome = bench::as_nobody(["--map-root", "--pids-max", "5", "true"]);
    if !bench::is_root() && outcome.status == 0 {
        skip!("a cgroup is delegated to this user");
    }
    outcome.refused("delegated");
}

/// Starts a chain with a limit, and runs this with `$pid` as its isolate.
fn beside_a_limited_chain(script: &str) -> Outcome {
    sh(&format!(
        "dir=$(mktemp -d); mkfifo $dir/up $dir/down
        $ISOLATE $U --pids-max 16 --pid --uts -- sh -c \"cat /proc/self/cgroup >$dir/cgroup; echo >$dir/up; read x <$dir/down\" & pid=$!
        read x <$dir/up
        {script}
        echo >$dir/down; wait $pid; rm -r $dir"
    ))
}

#[test]
fn a_command_that_joins_a_chain_is_under_its_limits() {
    if isolate(["--pids-max", "5", "true"]).status != 0 {
        skip!("no cgroup to limit in");
    }
    let outcome = beside_a_limited_chain(
        "$ISOLATE --join $pid -- cat /proc/self/cgroup | grep -c isolate-
        $ISOLATE --join $pid -- cat /proc/self/cgroup | cmp - $dir/cgroup && echo the same
        $ISOLATE --explain --join $pid -- cat /proc/self/cgroup | sh | cmp - $dir/cgroup && echo the same by hand
        $ISOLATE --join $pid -- sh -c 'f() { f | f; }; f' 2>/dev/null",
    );
    assert_eq!(outcome.stdout, "1\nthe same\nthe same by hand\n", "{outcome:?}");
    assert!(outcome.stderr.contains("limit of processes was reached"), "{outcome:?}");
}

#[test]
fn a_limit_of_ones_own_in_a_chain_that_is_joined_is_inside_its_limits() {
    if isolate(["--pids-max", "5", "true"]).status != 0 {
        skip!("no cgroup to limit in");
    }
    let outcome = beside_a_limited_chain(
        "bomb='i=0; while [ $i -lt 30 ]; do sleep 1000 & i=$((i + 1)); done; echo all of them'
        for limit in '--pids-max 1000' '--memory 1G' '--pids-max 1000 --memory 1G'; do
            $ISOLATE --join $pid $limit -- sh -c \"$bomb\" 2>/dev/null
            $ISOLATE --join $pid $limit -- sleep 1000 & inner=$!
            until ! kill -0 $inner || find /sys/fs/cgroup -path \"*/isolate-*-$inner/*\" -name cgroup.procs -exec grep -q . {} \\; -print 2>/dev/null | grep -q .; do :; done
            find /sys/fs/cgroup -path '*/isolate-*-'$inner | grep -q \"isolate-.*-$pid/isolate-.*-$inner\\|/memory/.*-$inner\" && echo inside
            kill $inner; wait $inner
        done 2>/dev/null",
    );
    assert_eq!(outcome.stdout, "inside\ninside\ninside\n", "{outcome:?}");
}

#[test]
fn a_hierarchy_from_outside_the_cgroup_namespace_is_refused() {
    needs_root!();
    if isolate(["--pids-max", "5", "true"]).status != 0 {
        skip!("no cgroup to limit in");
    }
    // Of a group below the root, so that this shows as /.. in the namespace; the group of a limit is one.
    let outcome = sh("$ISOLATE --pids-max 50 --cgroup --mount -- sh -c '
        $ISOLATE --pids-max 5 true; echo $?; ls -d /sys/fs/cgroup/*/isolate-* | wc -l'");
    assert_eq!(outcome.stdout.lines().next(), Some("125"), "{outcome:?}");
    assert!(outcome.stderr.contains("mounted from outside this cgroup namespace"), "{outcome:?}");
}

#[test]
fn a_command_that_may_not_be_moved_joins_all_the_same_and_says_so() {
    needs_root!();
    if isolate(["--pids-max", "5", "true"]).status != 0 {
        skip!("no cgroup to limit in");
    }
    // An ordinary user's chain in a group of root's.
    let outcome = sh(&format!(
        "dir=$(mktemp -d); chmod 777 $dir; mkfifo -m 666 $dir/up $dir/down
        $ISOLATE --pids-max 16 -- setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups \\
            $ISOLATE --map-root --pid -- sh -c \"echo >$dir/up; read x <$dir/down\" &
        read x <$dir/up
        inner=$(pgrep -u {NOBODY} -f \"^sh -c echo >$dir/up\")
        cd /; setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups $ISOLATE --join $inner -- echo joined
        echo >$dir/down; wait; rm -r $dir"
    ));
    assert_eq!(outcome.stdout, "joined\n", "{outcome:?}");
    assert!(outcome.stderr.contains("do not hold here: Permission denied\n"), "{outcome:?}");
}

#[test]
fn a_group_above_that_allows_no_further_one_is_named() {
    needs_root!();
    let Some(hierarchy) = unified("pids") else { skip!("version 2 of cgroups has no controllers here") };
    for (file, most) in [("cgroup.max.descendants", "0"), ("cgroup.max.descendants", "1"), ("cgroup.max.depth", "1")] {
        let group = Delegated::new(&hierarchy, "full");
        fs::write(group.0.join(file), most).expect("write");
        let outcome = group.run("", "$ISOLATE --map-root --pids-max 5 true");
        let said = format!("{} is {most} and allows no further group", group.0.join(file).display());
        assert!(outcome.stderr.contains(&said), "{outcome:?}");
        assert_eq!(outcome.status, 125, "{outcome:?}");
    }
}

#[test]
fn a_quota_above_that_of_the_group_above_is_refused_with_the_most_that_it_gives() {
    needs_root!();
    let Some(hierarchy) = of_its_own("cpu") else { skip!("version 1 of cgroups is not here") };
    let group = Delegated::new(&hierarchy, "quota");
    fs::write(group.0.join("cpu.cfs_quota_us"), "50000").expect("write");
    let outcome = group.run("", "$ISOLATE --map-root --cpus 2 true");
    assert!(outcome.stderr.contains("has 0.500 of a processor"), "{outcome:?}");
    outcome.refused("--cpus 0.500 or less");
    group.run("", "$ISOLATE --map-root --cpus 0.5 true").good();
}
