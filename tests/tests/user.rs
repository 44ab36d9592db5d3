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
