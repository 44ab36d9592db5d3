//! A root to work on, and the ways into namespaces that this machine and user have.
#![allow(dead_code)]

use chainroot_tests::{Work, busybox_image, is_root};

/// As real root, and in a user namespace as whoever runs the tests.
pub fn ways() -> Vec<&'static str> {
    let user = "isolate --user --map-root --pid --";
    if is_root() { vec!["isolate --pid --", user] } else { vec![user] }
}

/// A directory with a busybox root in it, at `root`.
pub fn scene() -> Work {
    let work = Work::new();
    let made = work.sh(&format!("mkdir root && tar -xf '{}' -C root && mkdir root/mnt", busybox_image().display()));
    made.expect(0, "");
    work
}
