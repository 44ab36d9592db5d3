//! scripts/initramfs: an archive that a kernel boots into the chain.

use std::path::{Path, PathBuf};

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

/// What of qemu and a kernel is here.
macro_rules! needs_a_machine {
    () => {{
        if !have("qemu-system-x86_64") || cfg!(not(target_arch = "x86_64")) {
            skip!("no qemu-system-x86_64");
        }
        let Some(kernel) = kernel() else { skip!("no kernel in /boot, nor in $CHAINROOT_TEST_KERNEL") };
        kernel
    }};
}

/// Boots boot.img. As soon as `prompt` shows on the console, a person types `answer`.
fn boot(work: &Work, kernel: &Path, append: &str, disk: &str, prompt: &str, answer: &str) -> String {
    // Emulated: a /dev/kvm that is there need not work. Opened to read and write, the fifo never blocks nor ends.
    let outcome = work.sh(&format!(
        "[ -p console ] || mkfifo console
        exec 4<>console; : >log
        timeout 200 qemu-system-x86_64 -accel tcg -cpu max -m 1G -display none -nodefaults -no-reboot \
            -kernel '{}' -initrd boot.img -append 'console=ttyS0 quiet panic=-1 {append}' {disk} -serial stdio <&4 >log & qemu=$!
        until grep -q '{prompt}' log || ! kill -0 $qemu 2>/dev/null; do sleep .1; done
        printf '{answer}' >&4
        wait $qemu; tr -d '\\r' <log",
        kernel.display()
    ));
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""), "{}", outcome.stdout);
    outcome.stdout
}

#[track_caller]
fn shows(console: &str, lines: &[&str]) {
    for line in lines {
        assert!(console.contains(line), "no {line:?} in:\n{console}");
    }
}

#[test]
fn it_boots_into_the_chain() {
    let kernel = needs_a_machine!();
    let work = Work::new();
    let made = work.sh(&format!(
        r#"{} '{}' boot.img sh -c 'echo "it'\''s $$ in $(cat /etc/image) on $(hostname)"; ls /..; exit 3' && ls"#,
        script("initramfs"),
        busybox_image().display()
    ));
    made.expect(0, "boot.img\n");
    let console = boot(&work, &kernel, "", "", "Power down", "");
    let ends = ["init: the command ended with status 3\n", "reboot: Power down\n"];
    shows(&console, &["it's 1 in busybox on initramfs\n", ends[0], ends[1]]);
    assert!(!console.contains("\ninit\n"), "the initramfs is still there:\n{console}");
    // First a shell of the initramfs, where it was asked for; then the same.
    let look = "busybox ls /bin/pivot; echo the shell: $((6 * 7)); exit\\n";
    let console = boot(&work, &kernel, "rescue", "", "a rescue was asked for: here is a shell; exit goes on", look);
    shows(&console, &["/bin/pivot\n", "the shell: 42\n", "it's 1 in busybox on initramfs\n", ends[0], ends[1]]);
}

#[test]
fn a_chain_or_a_disk_that_fails_ends_in_a_shell() {
    let kernel = needs_a_machine!();
    let work = Work::new();
    work.sh(&format!("{} '{}' boot.img", script("initramfs"), busybox_image().display())).expect(0, "");
    let answer = "echo the shell: $((6 * 7)); exit\\n";
    let prompt = "here is a shell; exit powers off";
    let console = boot(&work, &kernel, "root=/dev/nosuch", "", prompt, answer);
    let why = "init: root=/dev/nosuch cannot be mounted: mount: ";
    shows(&console, &[why, "the shell: 42\n", "reboot: Power down\n"]);
    // The kernel hands an image that is cut short to nobody else: the chain's own step fails.
    work.sh(&format!("{} '{}' boot.img /no/such/command", script("initramfs"), busybox_image().display()))
        .expect(0, "");
    let console = boot(&work, &kernel, "", "", "Power down", "");
    shows(&console, &["/no/such/command", "init: the command ended with status 127\n"]);
}

/// https://github.com/dracutdevs/dracut/pull/23: busybox's switch_root moves no mounts.
#[test]
fn it_switches_to_a_root_on_a_disk() {
    let kernel = needs_a_machine!();
    if !have("mke2fs") || !have("modprobe") {
        skip!("no mke2fs, or no modprobe, for a disk that qemu shows");
    }
    let work = Work::new();
    let init = "#!/bin/sh\n/bin/mount -o remount,rw / && echo x >/x\n\
        echo \"the disk's init: $$ $(cat /etc/image) $(ls /x /proc/1/stat /dev/vda /init 2>/dev/null | tr '\\n' ' ')\"\n\
        echo o >/proc/sysrq-trigger\nsleep 1000\n";
    let made = work.sh(&format!(
        "mkdir disk; tar -xf '{image}' -C disk; mkdir -p disk/sbin disk/sys
        cat >disk/sbin/init <<'END'\n{init}END
        chmod 755 disk/sbin/init; truncate -s 64M disk.img; mke2fs -q -t ext4 -d disk disk.img
        kernel='{kernel}'
        modules=$(modprobe -d \"${{kernel%/boot/*}}\" -aS \"${{kernel##*/vmlinuz-}}\" --show-depends virtio_pci virtio_blk ext4 |
            sed -n 's/^insmod/-m/p')
        {initramfs} $modules '{image}' boot.img",
        image = busybox_image().display(),
        kernel = kernel.display(),
        initramfs = script("initramfs"),
    ));
    if made.stderr.contains("modprobe") {
        skip!("no kernel in /boot with its modules: {}", made.stderr.lines().next().unwrap_or_default());
    }
    made.expect(0, "");
    let disk = "-drive file=disk.img,format=raw,if=virtio";
    let console = boot(&work, &kernel, "root=/dev/vda", disk, "Power down", "");
    shows(&console, &["the disk's init: 1 busybox /dev/vda /proc/1/stat /x \n"]);
    let console = boot(&work, &kernel, "root=/dev/vda rw init=/bin/nosuch", disk, "here is a shell", "exit\\n");
    shows(&console, &["init: root=/dev/vda has no /bin/nosuch: here is a shell; exit powers off"]);
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
}

/// A rename takes whatever place it is given: as root, that of a device as well.
#[test]
fn what_is_no_place_for_an_archive_is_refused_and_stays_as_it_is() {
    let work = Work::new();
    work.sh(&format!(
        "cp '{}' image.tar; mkdir directory; mkfifo fifo; ln -s image.tar link",
        busybox_image().display()
    ))
    .expect(0, "");
    for (words, why) in [
        ("no-such.tar other.img", "no-such.tar: no such image"),
        ("directory other.img", "directory: not a file"),
        ("image.tar no-such/boot.img", "no-such/boot.img: the directory for it does not exist"),
        ("image.tar directory", "directory: not a regular file"),
        ("image.tar fifo", "fifo: not a regular file"),
        ("image.tar image.tar", "image.tar: this is the image itself"),
        ("image.tar link", "image.tar: this is the image itself"),
        ("image.tar /proc/boot.img", "/proc/boot.img: cannot be written"),
        ("-m no-such.ko image.tar boot.img", "no-such.ko: no such module"),
    ] {
        work.sh(&format!("{} {words}", script("initramfs"))).expect_refusal(&["initramfs: ", why]);
        work.sh("ls").expect(0, "directory\nfifo\nimage.tar\nlink\n");
    }
    work.sh(&format!("cmp image.tar '{}' && ls -A directory", busybox_image().display())).expect(0, "");
}
