//! The scripts where systemd owns the cgroups: service, container and enter. scripts/test-systemd
//! boots a machine for these.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use chainroot_tests::{Outcome, Work, busybox_image, but_for_old_kernels, examples, is_root, needs_root, script, skip};

/// They share one systemd, which they have reload its units, and the host's networks: so they run one at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Ends the test where systemd does not run, or not with version 2 of cgroups alone.
macro_rules! needs_systemd {
    () => {
        if !Path::new("/run/systemd/system").exists() || !Path::new("/sys/fs/cgroup/init.scope").exists() {
            skip!("no systemd on version 2 of cgroups (scripts/test-systemd boots one)");
        }
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    };
}

/// Makes a service of this command and runs the script beside it, where $name is the unit, $data its
/// state directory, `next` waits for a line that the command writes to /data/up, `becomes` for a state, and
/// `limit` adds lines to the unit's [Unit] and [Service]. Afterwards nothing of it is left.
fn with_service(command: &str, commands: &str) -> Outcome {
    let work = Work::new();
    let prepare = format!(
        "set -e
        name=chainroot-test-$$ data=/var/lib/chainroot-test-$$ file=/run/systemd/system/chainroot-test-$$.service
        trap 'systemctl stop $name; rm -rf $file $file.d $data /var/cache/$name
            systemctl daemon-reload; systemctl reset-failed $name 2>/dev/null || :' EXIT
        becomes() {{ until [ \"$(systemctl show -P ActiveState $name)\" = $1 ]; do sleep .2; done; }}
        next() {{ read -r line <$data/up; echo \"$1 $line\"; }}
        limit() {{
            mkdir -p $file.d; printf '[Unit]\\n%s\\n[Service]\\n%s\\n' \"$1\" \"$2\" >$file.d/limit.conf
            systemctl daemon-reload
        }}
        mkdir $data; mkfifo $data/up; cp '{}' image.tar
        {} $name image.tar {command} >$file
        systemctl daemon-reload
        {commands}",
        busybox_image().display(),
        script("service"),
    );
    work.sh(&prepare)
}

#[test]
fn a_service_starts_stops_restarts_and_comes_back_after_a_kill() {
    needs_systemd!();
    needs_root!();
    let command = r#"sh -c 'trap "echo told to stop >/data/end; exit 0" TERM
        echo "$(cat /etc/image) $(ls /changed 2>/dev/null)" >/data/up; touch /changed
        echo a line for the journal; sleep 1000 & wait'"#
        .replace('\n', ";");
    let outcome = with_service(
        &command,
        "systemctl start $name; next started
        group=/sys/fs/cgroup$(systemctl show -P ControlGroup $name); [ -d $group ] && echo its group
        systemctl restart $name; cat $data/end; rm $data/end; next restarted
        systemctl kill --signal KILL --kill-whom main $name; next killed
        systemctl stop $name; cat $data/end; [ -d $group ] || echo gone
        systemctl show -P ActiveState -P Result $name
        journalctl --sync; journalctl -q -t $name -o cat | grep -c 'a line for'",
    );
    let lines = "started busybox\nits group\ntold to stop\nrestarted busybox\nkilled busybox\ntold to stop\ngone\n";
    outcome.expect(0, &format!("{lines}success\ninactive\n3\n"));
}

#[test]
fn a_command_that_takes_no_signal_of_its_own_stops_all_the_same() {
    needs_systemd!();
    needs_root!();
    let outcome = with_service(
        "sh -c 'echo >/data/up; exec sleep 1000'",
        "systemctl start $name; next started; systemctl stop $name; systemctl show -P ActiveState $name",
    );
    outcome.expect(0, "started \ninactive\n");
}

#[test]
fn a_services_words_reach_it_byte_for_byte() {
    needs_systemd!();
    needs_root!();
    let words = r#""$(printf 'a\nb\tc\rd')" '50% of $HOME' '' '\n"\' ';' '  '"#;
    let outcome = with_service(
        &format!("sh -c 'printf \"%s|\" \"$@\" | od -An -tx1 -w200 >/data/up; exec sleep 1000' sh {words}"),
        &format!("systemctl start $name; next has; systemctl stop $name; printf '%s|' {words} | od -An -tx1 -w200"),
    );
    let (inside, outside) = outcome.stdout.split_once('\n').unwrap_or_default();
    let inside = inside.trim_start_matches("has ");
    assert!(outcome.status == 0 && inside.contains(" 0a 62 ") && inside == outside.trim(), "{outcome:?}");
}

#[test]
fn another_image_in_the_services_place_runs_from_the_next_start_on() {
    needs_systemd!();
    needs_root!();
    let outcome = with_service(
        "sh -c 'cat /etc/image >/data/up; exec sleep 1000'",
        "systemctl start $name; next first
        unpack --quiet image.tar root >/dev/null; echo another >root/etc/image; tar -C root -cf new.tar .
        mv new.tar image.tar; systemctl restart $name; next then
        systemctl stop $name; ls -A /var/cache/$name",
    );
    outcome.expect(0, "first busybox\nthen another\nroot\nroot.image.json\n");
}

#[test]
fn a_service_that_crashes_again_and_again_is_given_up_and_leaves_nothing() {
    needs_systemd!();
    needs_root!();
    // Emulated, five starts take longer than systemd's ten seconds. Whenever somebody has systemd reload its units, it
    // counts from nothing again (https://github.com/systemd/systemd/pull/30024).
    let outcome = with_service(
        "sh -c 'echo start >>/data/starts; exit 3'",
        "limit 'StartLimitIntervalSec=1h
StartLimitBurst=4' ''
        systemctl start $name; becomes failed
        systemctl show -P Result $name; [ $(wc -l <$data/starts) -ge 4 ] && echo again and again
        ls -A /var/cache/$name; find /sys/fs/cgroup -name \"$name*\"; grep -c $name /proc/mounts",
    );
    outcome.expect(1, "exit-code\nagain and again\nroot\nroot.image.json\n0\n");
}

#[test]
fn the_services_own_limit_of_memory_holds_inside() {
    needs_systemd!();
    needs_root!();
    let outcome = with_service(
        "sh -c 'dd if=/dev/zero of=/dev/null bs=200M count=1; echo >/data/up; sleep 1000'",
        "limit '' 'MemoryMax=64M
OOMPolicy=stop
Restart=no'
        systemctl start $name
        becomes failed; systemctl show -P Result $name",
    );
    outcome.expect(0, "oom-kill\n");
}

/// Runs a script in a unit of its own: root's, or of the user's own manager.
fn in_unit(work: &Work, options: &str, commands: &str) -> Outcome {
    let user = if is_root() { "" } else { "--user" };
    std::fs::write(work.join("commands"), commands).expect("write");
    let outcome = work.sh(&format!(
        "systemd-run {user} --quiet --wait --pipe --collect --same-dir -E PATH -E XDG_CACHE_HOME=$PWD/cache {options} -- \
            sh commands"
    ));
    Outcome { stderr: but_for_old_kernels(&outcome.stderr), ..outcome }
}

fn container(options: &str, command: &str) -> String {
    format!("{} {options} '{}' {command}", script("container"), busybox_image().display())
}

#[test]
fn container_says_where_its_limits_would_hold_and_they_do_there() {
    needs_systemd!();
    let work = Work::new();
    let run = if is_root() { "systemd-run" } else { "systemd-run --user" };
    let hint = format!("Delegate=yes in the unit; or {run} --scope -p Delegate=yes -- container …");
    // A session as ssh makes one; a user cannot make one.
    let sessions: &[&str] = if is_root() { &["", "-p PAMName=login"] } else { &[""] };
    for session in sessions {
        let outcome = in_unit(&work, session, &container("", "echo started"));
        outcome.expect(0, "started\n");
        assert!(outcome.stderr.starts_with("container: running WITHOUT the usual limits"), "{session}: {outcome:?}");
        assert!(outcome.stderr.contains(&hint), "{session}: {outcome:?}");
        let outcome = in_unit(&work, session, &container("-p 20", "echo started"));
        outcome.expect(125, "");
        assert!(outcome.stderr.contains(&hint), "{session}: {outcome:?}");
    }
    // Those of the group that is in the unit beside the one where this script waits meanwhile.
    let limits = "unit=/sys/fs/cgroup$(sed 's/0:://; s|/isolate-.*||' /proc/self/cgroup)
        cat $unit/isolate-[0-9]*/pids.max $unit/isolate-[0-9]*/memory.max";
    let limited = container("-p 20", "sh -c 'echo up; read -r line' <down >up");
    let outcome = in_unit(
        &work,
        "-p Delegate=yes",
        &format!("mkfifo up down; {limited} & exec 4>down; read -r line <up; {limits}; exec 4>&-; wait; rm up down"),
    );
    assert!(outcome.stdout.starts_with("20\n536870912\n") && outcome.stderr.is_empty(), "{outcome:?}");
    let user = if is_root() { "" } else { "--user" };
    let named = format!("systemd-run {user} --scope --quiet -p Delegate=yes -- {}", container("-p 20", "echo started"));
    let outcome = in_unit(&work, "", &named);
    outcome.expect(0, "started\n");
    assert_eq!(outcome.stderr, "");
}

/// https://github.com/moby/moby/issues/42704
#[test]
fn who_enters_a_container_of_another_unit_is_under_its_limits() {
    needs_systemd!();
    let work = Work::new();
    let limited = container("-p 20", "sh -c 'echo >/shared/up; exec sleep 1000'");
    let limited = limited.replacen("-p 20", "-p 20 -v $PWD/shared:/shared", 1);
    let enter = format!("{} $! cat /proc/self/cgroup", script("enter"));
    let user = if is_root() { "" } else { "--user" };
    // From another scope of the same manager, as from another terminal.
    let outcome = in_unit(
        &work,
        "-p Delegate=yes",
        &format!(
            "mkdir shared; mkfifo shared/up; {limited} & timeout 100 cat shared/up
            systemd-run {user} --scope --quiet -- {enter}; kill $!; wait; rm -r shared"
        ),
    );
    // In the container's own view of cgroups its group is the root.
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("\n0::/\n", ""), "{outcome:?}");
}

/// As from a login's shell, whose session is root's to divide.
#[test]
fn a_box_that_may_not_limit_takes_a_scope_of_its_users_manager() {
    needs_systemd!();
    if is_root() {
        skip!("for an ordinary user");
    }
    let work = Work::new();
    let boxed = |words: &str| format!("mkdir -p home/work; cd home/work; HOME=${{PWD%/*}} {} {words}", script("box"));
    let outcome = in_unit(&work, "", &boxed("-m 64M -- dd if=/dev/zero of=/dev/null bs=256M count=1"));
    assert_eq!(outcome.status, 137, "{outcome:?}");
    assert!(outcome.stderr.contains("memory"), "{outcome:?}");
    let bomb = "sh -c 'i=0; while [ $i -lt 60 ]; do sleep 1000 & i=$((i + 1)); done'";
    let outcome = in_unit(&work, "", &boxed(&format!("-p 20 -- {bomb}")));
    assert!(outcome.stderr.contains("fork"), "{outcome:?}");
    in_unit(&work, "", &boxed("-p 20 -m 64M -c 1 -- echo fits")).expect(0, "fits\n");
}

/// /srv/web.tar and the name web are the example's own.
#[test]
fn the_example_of_services_header_serves() {
    needs_systemd!();
    needs_root!();
    let work = Work::new();
    let scripts = script("service").replace("/service", "");
    let example = examples("service").join("\n");
    let outcome = work.sh(&format!(
        "set -e; PATH={scripts}:$PATH
        cp '{}' /srv/web.tar; bridge-net add web 10.88.0.2/24
        trap 'systemctl stop web; bridge-net del web; umount /run/netns
            rm -rf /srv/web.tar /etc/systemd/system/web.service /var/lib/web /var/cache/web; systemctl daemon-reload' EXIT
        {example}
        until busybox wget -O - http://10.88.0.2/ 2>&1 | grep '404 Not Found'; do sleep .2; done",
        busybox_image().display()
    ));
    assert!(outcome.status == 0 && outcome.stdout.contains("404 Not Found"), "{outcome:?}");
}
