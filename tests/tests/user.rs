//! An ordinary user, and the way that an error points to it.

use chainroot_tests::{Work, busybox_image, is_root, needs_root};

#[test]
fn without_user_the_error_says_to_add_it() {
    let work = Work::new();
    let as_nobody =
        if is_root() { "setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all " } else { "" };
    for (line, tool) in [
        ("isolate --pid true", "isolate"),
        ("isolate --uts --net true", "isolate"),
        ("pivot / true", "pivot"),
        ("mountclean true", "mountclean"),
    ] {
        let outcome = work.sh(&format!("chmod 755 .; {as_nobody}{line}"));
        outcome.expect_refusal(&[&format!("{tool}: "), &format!("{tool}: hint: "), "--user"]);
    }
}

#[test]
fn the_whole_chain_works_for_an_ordinary_user() {
    let work = Work::new();
    let as_user = if is_root() { "setpriv --reuid=1234 --regid=1234 --clear-groups --bounding-set=-all " } else { "" };
    let script = format!(
        "chmod 777 .; {as_user}sh -c 'unpack --quiet {} | isolate --user --map-root --pid --uts --hostname inside -- pivot ./root -- mountclean -- sh -c \"id -u; hostname; echo \\$\\$; mount | cut -d \\\" \\\" -f 3; ls /.. | head -n 1\"'",
        busybox_image().display()
    );
    work.sh(&script).expect(0, "0\ninside\n1\n/\n/proc\nbin\n");
}

#[test]
fn a_root_that_unpack_made_for_a_user_can_be_removed_by_that_user() {
    needs_root!();
    let work = Work::new();
    let image = work.join("locked.tar");
    chainroot_tests::image_of(&image, "mkdir locked && touch locked/file && chmod 555 locked");
    let script = "chmod 777 .; setpriv --reuid=1234 --regid=1234 --clear-groups sh -c 'unpack --quiet locked.tar && chmod -R u+w root && rm -r root root.image.json'; ls -A";
    work.sh(script).expect(0, &format!("{}\nlocked.tar\n", work.join("root").display()));
}

#[test]
fn in_isolates_user_namespace_with_ranges_unpack_keeps_owners() {
    needs_root!();
    let work = Work::new();
    let script = r#"chmod 777 . && mkdir d && echo x >d/file && ln -s file d/link
        tar --owner=33 --group=44 -C d -cf owned.tar file link && rm -r d && echo nobody:200000:1000 >ranges
        unshare -m sh -c 'mount --bind ranges /etc/subuid && mount --bind ranges /etc/subgid &&
            exec setpriv --reuid=65534 --regid=65534 --clear-groups isolate --user --map-auto -- unpack owned.tar' &&
        stat -c '%u %g' root/file root/link root"#;
    let outcome = work.sh(script);
    // 0 is the caller's inside, and 1 the first of the range.
    outcome.expect(0, &format!("{}\n200032 200043\n200032 200043\n65534 65534\n", work.join("root").display()));
    assert_eq!(outcome.stderr, "");
}
