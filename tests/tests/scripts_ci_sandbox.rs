//! scripts/ci-sandbox: a build step that can change its directory and nothing else.

use chainroot_tests::{Work, busybox_image, is_root, needs_root, script, skip};

/// A directory `src` to build in, and the line that runs a command there.
fn line(work: &Work, command: &str) -> String {
    let make = format!("cp '{}' image.tar; mkdir src; echo all: >src/Makefile", busybox_image().display());
    assert_eq!(work.sh(&make).status, 0);
    format!("XDG_CACHE_HOME=$PWD/cache {} image.tar src {command}", script("ci-sandbox"))
}

#[test]
fn a_build_step_writes_its_directory_and_nothing_else() {
    let work = Work::new();
    let step = r#"sh -c 'pwd; cat Makefile; echo built >result; echo x >/tmp/x && cat /tmp/x
        for place in / /etc /bin /proc/sys/kernel/hostname; do
            case $place in */hostname) file=$place ;; *) file=$place/new ;; esac
            (echo x >$file) 2>/dev/null && echo wrote $file
        done; exit 5'"#;
    work.sh(&line(&work, step)).expect(5, "/work\nall:\nx\n");
    assert_eq!(std::fs::read_to_string(work.join("src/result")).expect("result"), "built\n");
    // What was mounted on is the layer above: the root is as it was unpacked.
    work.sh("ls cache/chainroot/image.tar.*/work cache/chainroot/image.tar.*/tmp/x 2>/dev/null").expect(2, "");
}

#[test]
fn a_cache_that_others_could_write_to_is_refused() {
    let work = Work::new();
    let run = line(&work, "true");
    work.sh(&format!("mkdir -p cache/chainroot && chmod 777 cache/chainroot && {run}"))
        .expect_refusal(&["cache/chainroot: must be yours"]);
    if is_root() {
        work.sh(&format!("chmod 700 cache/chainroot; chown 31347 cache/chainroot && {run}"))
            .expect_refusal(&["cache/chainroot: must be yours"]);
    }
}

#[test]
fn there_is_no_network_and_nothing_of_the_callers_environment() {
    let work = Work::new();
    let step = "sh -c 'ip -o link | cut -d \" \" -f 2; echo ${TOKEN-none} $CI; wget -q -O - http://10.0.0.1/ 2>/dev/null || echo unreachable'";
    work.sh(&format!("export TOKEN=secret; {}", line(&work, step))).expect(0, "lo:\nnone true\nunreachable\n");
}

#[test]
fn what_it_makes_belongs_to_the_owner_of_the_directory() {
    let work = Work::new();
    let run = line(&work, "sh -c 'echo x >made'");
    let (setup, owner) = if is_root() { ("chown 1234:2345 src;", "1234:2345\n") } else { ("", "own") };
    let outcome = work.sh(&format!("{setup} {run} && stat -c %u:%g src/made"));
    let own = format!("{}:{}\n", nix::unistd::geteuid(), nix::unistd::getegid());
    outcome.expect(0, if owner == "own" { &own } else { owner });
}

/// Another user who owns a directory above can swap what its name means between two looks at it. A build that ran as root in
/// that directory would leave that user a setuid file of root's.
#[test]
fn a_directory_that_is_swapped_meanwhile_is_not_built_in_as_another_user() {
    if !is_root() {
        skip!("only root can be two users");
    }
    let work = Work::new();
    let run = line(&work, "sh -c 'echo x >made'").replace("image.tar src", "image.tar up/src");
    // What stat(1) says of the owner is no longer true when it has said it.
    let swap = r#"cat >bin/stat <<END
#!/bin/sh
$(command -v stat) "\$@"
case \$* in *--setuid*) cd '$PWD' && mv up first && mv second up ;; esac
END
        chmod 755 bin/stat"#;
    let outcome = work.sh(&format!(
        "mkdir up bin second second/src; mv src up; chmod 777 second/src; chown -R 1234:2345 up
         {swap}
         PATH=$PWD/bin:$PATH; export PATH; {run}; stat -c %u:%g first/src/made; ls up/src"
    ));
    outcome.expect(0, "1234:2345\n");
}

#[test]
fn it_has_no_privileges() {
    let work = Work::new();
    let step = "sh -c 'grep -E \"^(Cap(Eff|Prm|Bnd|Amb)|NoNewPrivs|Seccomp):\" /proc/self/status | tr -d \" \\t\"; unshare -U true 2>/dev/null || echo no namespace'";
    work.sh(&line(&work, step)).expect(
        0,
        "CapPrm:0000000000000000\nCapEff:0000000000000000\nCapBnd:0000000000000000\nCapAmb:0000000000000000\nNoNewPrivs:1\nSeccomp:2\nno namespace\n",
    );
}

#[test]
fn its_options_its_errors_and_its_cache_are_those_of_container() {
    let work = Work::new();
    let run = line(&work, "true");
    work.sh(&format!("{run} 2>/dev/null; ls cache/chainroot/*.image.json | wc -l")).expect(0, "1\n");
    let scripts = [("container", ""), ("ci-sandbox", "src")];
    let each = |options: &str, command: &str| {
        scripts.map(|(name, dir)| {
            let words = format!("{options} image.tar {dir} {command}");
            let mut outcome =
                work.sh(&format!("export XDG_CACHE_HOME=$PWD/cache NAMED=named; {} {words}", script(name)));
            // A user without a private group is told first that there are no limits.
            let mut lines = outcome.stderr.lines().filter(|line| !line.contains("hint: "));
            outcome.stderr = lines.next_back().unwrap_or_default().replace(name, "");
            outcome
        })
    };
    // Both have one root for the image, also where the options differ.
    let show = "sh -c 'pwd; hostname; echo $A $NAMED; ls /data'";
    let [one, other] = each("-w /data -H web -e A=b -e NAMED -v ./src:/data -x", show);
    assert_eq!((one.status, &one.stdout), (0, &"/data\nweb\nb named\nMakefile\n".to_owned()), "{one:?}");
    assert_eq!((other.status, &other.stdout), (0, &one.stdout), "{other:?}");
    work.sh("ls cache/chainroot/*.image.json | wc -l").expect(0, "1\n");
    for options in ["-m 512MB", "-p many", "-c none", "-n host", "-e 1x=2", "-k NONE_SUCH", "-u 4294967295"] {
        let [one, other] = each(options, "true");
        assert_eq!((one.status, &one.stderr), (125, &other.stderr), "{options}: {other:?}");
        assert_eq!(other.status, 125, "{options}");
    }
}

#[test]
fn its_limits_are_those_of_container() {
    needs_root!();
    let work = Work::new();
    line(&work, "true");
    let big = "sh -c 'dd if=/dev/zero of=/dev/null bs=100M count=1 2>/dev/null; echo $?'";
    for (options, status) in [("-m 64M", "137\n"), ("-m 256M", "0\n"), ("", "0\n")] {
        for (name, dir) in [("container", ""), ("ci-sandbox", "src")] {
            let run = format!("XDG_CACHE_HOME=$PWD/cache {} {options} image.tar {dir} {big}", script(name));
            work.sh(&run).expect(0, status);
        }
    }
    let bomb = "sh -c 'for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17; do sleep 100 & done; echo all'";
    for (name, dir) in [("container", ""), ("ci-sandbox", "src")] {
        let run = work.sh(&format!("XDG_CACHE_HOME=$PWD/cache {} -p 16 image.tar {dir} {bomb}", script(name)));
        assert!(!run.stdout.contains("all") && run.stderr.contains("limit of processes"), "{name}: {run:?}");
    }
}
