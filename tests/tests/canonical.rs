//! The canonical line on real images: as root and, with `--user --map-root`, as an ordinary user.

use chainroot_tests::{Work, busybox_image, debian_image, is_root, skip};

/// Runs the line on an image with this shell script as its command.
fn line(work: &Work, image: &std::path::Path, mountclean: &str, script: &str) -> chainroot_tests::Outcome {
    work.sh(&format!(
        "unpack --quiet '{}' | isolate {} --pid --uts -- pivot ./root -- {mountclean} sh -c '{script}'",
        image.display(),
        work.user(),
    ))
}

fn on_debian(compression: &str) {
    let Some(image) = debian_image(compression) else {
        skip!("no Debian image: it takes root, mmdebstrap and a mirror")
    };
    let work = Work::new();
    let script = "hostname inside; hostname; echo $$; cat /etc/os-release /../etc/os-release | grep -c ^ID=debian; ls /.. >/tmp/a; ls / >/tmp/b; cmp /tmp/a /tmp/b && echo same";
    line(&work, &image, "", script).expect(0, "inside\n1\n2\nsame\n");
    // The second time it is there already; with mountclean, the table is / and /proc, and ps shows the container.
    let script = "mount | cut -d \" \" -f 3; ps -e -o comm=";
    let second = line(&work, &image, "mountclean --", script);
    second.expect(0, "/\n/proc\nsh\nps\n");
}

#[test]
fn the_line_works_on_a_plain_debian_tar() {
    on_debian("");
}

#[test]
fn the_line_works_on_a_gzipped_debian_tar() {
    on_debian("gz");
}

#[test]
fn the_line_works_on_an_xz_debian_tar() {
    on_debian("xz");
}

#[test]
fn the_line_works_on_a_zstd_debian_tar() {
    on_debian("zst");
}

#[test]
fn a_second_and_third_time_nothing_is_extracted_again() {
    let work = Work::new();
    let image = busybox_image();
    for _ in 0..3 {
        line(&work, &image, "", "cat /etc/image; stat -c %i / >>/tmp/roots").expect(0, "busybox\n");
    }
    line(&work, &image, "", "sort -u /tmp/roots | wc -l").expect(0, "1\n");
}

#[test]
fn the_form_without_a_pipe_does_the_same() {
    let work = Work::new();
    let image = busybox_image();
    let script = format!(
        "unpack --quiet '{}' -- isolate {} --pid --uts -- pivot ./root -- mountclean -- sh -c 'echo $$; mount | cut -d \" \" -f 3'",
        image.display(),
        work.user()
    );
    work.sh(&script).expect(0, "1\n/\n/proc\n");
    work.sh(&script).expect(0, "1\n/\n/proc\n");
}

#[test]
fn the_form_without_a_pipe_leaves_the_commands_stdin_alone() {
    let work = Work::new();
    let script = format!(
        "unpack --quiet '{}' -- isolate {} --pid -- pivot ./root -- cat",
        busybox_image().display(),
        work.user()
    );
    work.with_input("sh", &script, b"for the command\n").expect(0, "for the command\n");
}

#[test]
fn the_path_that_unpack_prints_can_be_gone_to() {
    let work = Work::new();
    let script =
        format!("root=$(unpack --quiet '{}') || exit; cd \"$root\" && cat etc/image && pwd", busybox_image().display());
    work.sh(&script).expect(0, &format!("busybox\n{}\n", work.join("root").display()));
    let script = format!(
        "unpack --quiet '{}' | while read -r root; do cat \"$root/etc/image\"; done",
        busybox_image().display()
    );
    work.sh(&script).expect(0, "busybox\n");
}

#[test]
fn an_image_may_come_through_a_pipe() {
    let work = Work::new();
    let script = format!(
        "gzip -c '{}' | unpack --quiet - | isolate {} --pid --uts -- pivot ./root -- cat /etc/image",
        busybox_image().display(),
        work.user()
    );
    work.sh(&script).expect(0, "busybox\n");
}

#[test]
fn root_may_be_taken_from_the_line() {
    let work = Work::new();
    let script = format!(
        "unpack --quiet '{}' 'some where' | isolate {} --pid -- pivot - -- cat /etc/image",
        busybox_image().display(),
        work.user()
    );
    work.sh(&script).expect(0, "busybox\n");
}

#[test]
fn every_link_works_three_deep() {
    let work = Work::new();
    // A chain inside a chain: the carried tools, on a root inside the root.
    let image = work.join("nested.tar");
    let change = "mkdir inner && cp -a bin etc dev proc tmp inner/ && mkdir inner/inner && cp -a bin etc dev proc tmp inner/inner/ && echo two >inner/etc/image && echo three >inner/inner/etc/image";
    chainroot_tests::image_of(&image, change);
    let script = format!(
        "unpack --quiet nested.tar | isolate {} --pid --uts -- pivot ./root -- mountclean -- isolate --pid -- pivot /inner -- mountclean -- isolate --pid -- pivot /inner -- mountclean -- sh -c 'cat /etc/image; echo $$; mount | cut -d \" \" -f 3'",
        work.user()
    );
    work.sh(&script).expect(0, "three\n1\n/\n/proc\n");
}

#[test]
fn an_unprivileged_chain_runs_inside_a_privileged_one() {
    if !is_root() {
        skip!("needs root for the outer chain");
    }
    let work = Work::new();
    let image = work.join("nested.tar");
    chainroot_tests::image_of(&image, "mkdir inner && cp -a bin etc dev proc tmp inner/ && echo two >inner/etc/image");
    let script = "unpack --quiet nested.tar | isolate --pid --uts -- pivot ./root -- mountclean -- isolate --setuid 1000 --setgid 1000 -- isolate --user --map-root --pid -- pivot /inner -- mountclean -- sh -c 'cat /etc/image; id -u'";
    work.sh(script).expect(0, "two\n0\n");
}
