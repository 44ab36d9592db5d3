//! An image's layers apart, from unpack to a container on them.

use chainroot_tests::{Work, busybox_image, have, script, skip};

/// `new.tar`: busybox and two layers, of which the upper hides some of what is below.
fn image(work: &Work) {
    work.sh(&format!(
        "mkdir -p one/usr two/etc; echo 1 >one/one; echo 2 >two/etc/two; touch two/etc/.wh.image
        for n in one two; do tar -C $n --owner=0 --group=0 -cf $n.tar .; done
        {} '{}' one.tar two.tar new.tar",
        script("image"),
        busybox_image().display()
    ))
    .expect(0, "");
}

const LOOK: &str = "sh -c 'cat /one /etc/two; ls /etc'";
const SEEN: &str = "1\n2\ngroup\npasswd\ntwo\n";

#[test]
fn the_line_is_that_of_a_plain_root_and_can_be_typed_again() {
    if !have("jq") {
        skip!("no jq");
    }
    let work = Work::new();
    image(&work);
    let (user, unpack) = (work.user(), "unpack --quiet --layers store new.tar x.mstack");
    for options in ["", "--ephemeral", "--overlay changes", "--as-image --read-only"] {
        for end in ["", "mountclean -- "] {
            work.sh(&format!(
                "isolate {user} -- {unpack} | isolate {user} --pid -- pivot {options} x.mstack -- {end}{LOOK}"
            ))
            .expect(0, SEEN);
        }
        work.sh(&format!("isolate {user} -- {unpack} | isolate {user} --pid -- pivot {options} - -- {LOOK}"))
            .expect(0, SEEN);
        work.sh(&format!("isolate {user} --pid -- {unpack} -- pivot {options} x.mstack -- {LOOK}")).expect(0, SEEN);
    }
    work.sh("rm -rf changes").expect(0, "");
}

/// What a container has changed on a stack is a layer as well, and with it on top the image is the tree that it saw.
#[test]
fn changes_on_a_stack_are_the_next_layer() {
    if !have("jq") || !have("getfattr") {
        skip!("no jq or no getfattr");
    }
    let work = Work::new();
    image(&work);
    let user = work.user();
    work.sh(&format!(
        "isolate {user} --pid -- unpack --quiet --layers store new.tar x.mstack -- \
            pivot --overlay changes x.mstack -- sh -c 'rm /one; rm -r /usr; mkdir /usr; touch /usr/new; echo 3 >/etc/two'
        {} changes three.tar && {} new.tar three.tar newer.tar &&
        isolate {user} --pid -- unpack --quiet --layers store newer.tar y.mstack -- \
            pivot y.mstack -- sh -c 'ls /one /usr; cat /etc/two' 2>/dev/null; ls store | grep -c json; rm -r changes",
        script("layer"),
        script("image")
    ))
    .expect(0, "/usr:\nnew\n3\n4\n");
}
