//! A user namespace that root makes for somebody else (--owner).

mod bench;

use bench::{isolate, sh};

const OWNER: &str = "4242:4343";

#[test]
fn the_namespace_is_the_owners_and_root_maps_what_the_owner_could_not() {
    needs_root!();
    let seen = sh(&format!(
        "$ISOLATE --owner {OWNER} --map-users 0:100000:10 --map-groups 0:200000:10 --pid --status-fd 3 -- \\
            sh -c 'cat /proc/self/uid_map /proc/self/gid_map; id -u; id -g; id -G; grep CapPrm /proc/self/status' 3>/dev/null"
    ))
    .good();
    let words: Vec<&str> = seen.split_whitespace().collect();
    // Without an id inside COMMAND is nobody, and has no capability after its exec.
    let none = "0000000000000000";
    let expected = ["0", "100000", "10", "0", "200000", "10", "65534", "65534", "65534", "CapPrm:", none];
    assert_eq!(words, expected);
}

/// NS_GET_OWNER_UID of ioctl_ns(2).
#[test]
fn the_kernel_names_the_owner_who_may_enter() {
    needs_root!();
    let seen = sh(&format!(
        "$ISOLATE --owner {OWNER} -r --uts --fork --status-fd 3 -- \\
            sh -c 'echo started; exec sleep 1000' 3>/dev/null | {{
            read -r started
            pid=$(pgrep -f '^sleep 1000$' -u 4242)
            setpriv --reuid=4242 --regid=4343 --clear-groups $ISOLATE --join $pid:user,uts -- sh -c 'id -u; id -g'
            setpriv --reuid=4243 --regid=4343 --clear-groups $ISOLATE --join $pid:user,uts -- id -u 2>/dev/null || echo no
            kill $pid
        }}"
    ));
    assert_eq!(seen.stdout, "0\n0\nno\n", "{seen:?}");
}

#[test]
fn own_ids_are_the_owners() {
    needs_root!();
    for (options, ids) in [("-r", "0 0 0"), ("-c", "4242 4343 4343"), ("--map-user 7 --map-group 8", "7 8 8")] {
        let line = format!("$ISOLATE --owner {OWNER} {options} --pid -- sh -c 'echo $(id -u) $(id -g) $(id -G)'");
        assert_eq!(sh(&line).good(), ids, "{options}");
        let outside = format!("$ISOLATE --owner {OWNER} {options} -- cat /proc/self/uid_map");
        assert_eq!(sh(&outside).good().split_whitespace().nth(1), Some("4242"), "{options}");
    }
}

#[test]
fn a_namespace_that_is_joined_can_hold_the_new_one() {
    needs_root!();
    let seen = sh(&format!(
        "$ISOLATE --uts --hostname row --fork -- sh -c 'echo started; exec sleep 1001' | {{
            read -r started
            pid=$(pgrep -f '^sleep 1001$')
            $ISOLATE --join $pid:uts --owner {OWNER} -r -- sh -c 'hostname; id -u'
            kill $pid
        }}"
    ));
    assert_eq!(seen.stdout, "row\n0\n", "{seen:?}");
}

#[test]
fn a_user_who_may_not_become_the_owner_is_told_why() {
    bench::as_nobody(["--owner", OWNER, "true"]).refused("only root makes a user namespace for another user");
    isolate(["-r", "--", bench::ISOLATE, "--owner", OWNER, "true"])
        .refused("setgroups is denied in this user namespace");
    isolate(["--owner", "4242", "true"]).refused("not USER:GROUP");
    isolate(["--owner", "4242:no-such-group", "true"]).refused("no-such-group");
    isolate(["--owner", OWNER, "--boottime", "5", "--time", "true"]).refused("--boottime");
    needs_root!();
    let maps = ["--map-users", "0:0:10", "--map-groups", "0:0:10"];
    isolate(maps.into_iter().chain(["--", bench::ISOLATE, "--owner", OWNER, "true"])).refused("does not map that user");
}
