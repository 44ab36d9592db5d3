//! Another user keeps no container from its `--overlay` directory.

use chainroot_tests::needs_root;
use chainroot_tests::scene::scene;

/// flock(2) asks for no right but to open, which everybody has of a directory of mode 0755.
#[test]
fn another_user_who_can_read_the_directory_keeps_nobody_from_starting() {
    needs_root!();
    let work = scene();
    work.sh("chmod 755 .; mkdir -m 755 changes; isolate --mount -- pivot --overlay changes root -- true").expect(0, "");
    // An earlier version made this one for all to open.
    work.sh("chmod 755 changes/work");
    work.sh("isolate --mount -- pivot --overlay changes root -- true").expect(0, "");
    let script = "mkfifo up down; setpriv --reuid 65534 --clear-groups sh -c \
         'exec 9<changes; flock -xn 9; (exec 8<changes/work) 2>/dev/null && echo open; echo up; cat' <down >up & \
         exec 3>down; read said <up; echo $said; timeout 20 isolate --mount -- pivot --no-handoff --overlay changes root -- \
         echo started; exec 3>&-; wait";
    work.sh(script).expect(0, "up\nstarted\n");
}
