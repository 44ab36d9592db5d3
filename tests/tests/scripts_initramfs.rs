//! scripts/initramfs: an archive that a kernel boots into the chain.

use std::path::PathBuf;

use chainroot_tests::{Work, busybox_image, have, script, skip};

/// A kernel to boot: `$CHAINROOT_TEST_KERNEL`, this machine's, or one that scripts/test-kernels has fetched.
fn kernel() -> Option<PathBuf> {
    if let Some(kernel) = std::env::var_os("CHAINROOT_TEST_KERNEL") {
        return Some(kernel.into());
    }
    let fetched = busybox_image().with_file_name("kernels");
    let directories = std::fs::read_dir(fetched).into_iter().flatten().flatten().map(|entry| entry.path().join("boot"));
    [PathBuf::from("/boot")]
        .into_iter()
        .chain(directories)
        .filter_map(|directory| std::fs::read_dir(directory).ok())
        .flat_map(|entries| entries.flatten())
        .map(|entry| entry.path())
        .find(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"))
                && std::fs::File::open(path).is_ok()
        })
}

#[test]
fn it_boots_into_the_chain() {
    if !have("qemu-system-x86_64") || cfg!(not(target_arch = "x86_64")) {
        skip!("no qemu-system-x86_64");
    }
    let Some(kernel) = kernel() else { skip!("no kernel in /boot, nor in $CHAINROOT_TEST_KERNEL") };
    let work = Work::new();
    let made = work.sh(&format!(
        r#"{} '{}' boot.img sh -c 'echo "it'\''s $$ in $(cat /etc/image) on $(hostname)"; ls /..; exit 3' && ls"#,
        script("initramfs"),
        busybox_image().display()
    ));
    made.expect(0, "boot.img\n");
    // Emulated: a /dev/kvm that is there need not work.
    let boot = format!(
        "timeout 200 qemu-system-x86_64 -accel tcg -cpu max -m 1G -display none -nodefaults -no-reboot \
         -kernel '{}' -initrd boot.img -append 'console=ttyS0 quiet panic=-1' -serial file:log </dev/null; tr -d '\\r' <log",
        kernel.display()
    );
    let boot = work.sh(&boot);
    for line in ["it's 1 in busybox on initramfs\n", "init: the command ended with status 3\n", "reboot: Power down\n"]
    {
        assert!(boot.stdout.contains(line), "no {line:?} in:\n{}{}", boot.stdout, boot.stderr);
    }
    assert!(!boot.stdout.contains("\ninit\n"), "the initramfs is still there:\n{}", boot.stdout);
}

#[test]
fn it_holds_the_tools_and_the_image_and_is_made_all_or_nothing() {
    let work = Work::new();
    let image = busybox_image();
    let list = work.sh(&format!(
        "{} '{}' boot.img && gzip -dc boot.img | busybox cpio -t 2>/dev/null | sort",
        script("initramfs"),
        image.display()
    ));
    list.expect(
        0,
        ".\nbin\nbin/busybox\nbin/isolate\nbin/mountclean\nbin/pivot\nbin/unpack\ndev\nimage\ninit\nproc\nsys\n",
    );
    // A busybox that needs a libc, a cpio that fails, and what is no image.
    let wrong = work.sh(&format!(
        r#"mkdir dynamic failing; cp "$(command -v env)" dynamic/busybox; echo text >text
        printf '#!/bin/sh
echo no space >&2; exit 1
' >failing/busybox; chmod +x failing/busybox
        for line in "dynamic '{0}'" "failing '{0}'" ". text"; do
            eval "PATH=$PWD/${{line%% *}}:$PATH {1} ${{line#* }} wrong.img"; echo $?
        done; ls wrong*"#,
        image.display(),
        script("initramfs"),
    ));
    assert_eq!(wrong.stdout, "125\n125\n125\n", "{wrong:?}");
    for part in ["busybox: is not static", "initramfs: cpio: no space", "text: not an image that unpack reads"] {
        assert!(wrong.stderr.contains(part), "no {part:?} in {}", wrong.stderr);
    }
    let missing = work.sh(&format!("{} no-such.tar other.img; echo $?; ls other* 2>/dev/null", script("initramfs")));
    assert_eq!(missing.stdout, "125\n");
}
