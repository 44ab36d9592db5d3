//! What a person installs is what was built, and it works where it is put.

use std::fs;
use std::path::Path;

use chainroot_tests::{Work, busybox_image, debian_image, have, needs_root, skip};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts");

/// The binaries under test, for scripts that would build others; without what is for debuggers, and
/// packed quickly, or most of the time would go into compressing.
const BIN: &str = "mkdir -p bin && for tool in unpack isolate pivot mountclean; do
    strip -o bin/$tool $(command -v $tool); done; export CHAINROOT_BIN=$PWD/bin DPKG_DEB_COMPRESSOR_TYPE=gzip DPKG_DEB_COMPRESSOR_LEVEL=1";

#[test]
fn install_puts_tools_manuals_completions_and_examples_below_the_prefix() {
    let work = Work::new();
    let outcome = work.sh(&format!("{BIN}; '{SCRIPTS}/install' \"$PWD/usr\""));
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    for tool in ["unpack", "isolate", "pivot", "mountclean"] {
        let version = work.sh(&format!("usr/bin/{tool} --version")).stdout;
        assert_eq!(version, format!("{tool} {}\n", env!("CARGO_PKG_VERSION")));
        for file in [
            format!("share/man/man1/{tool}.1"),
            format!("share/bash-completion/completions/{tool}"),
            format!("share/zsh/site-functions/_{tool}"),
            format!("share/fish/vendor_completions.d/{tool}.fish"),
        ] {
            assert!(work.join("usr").join(&file).is_file(), "{file}");
        }
    }
    work.sh("ls usr/share/doc/chainroot/examples | tr '\\n' ' '").expect(
        0,
        "box box.d bridge-net by-hand ci-sandbox container debian docker-image enter erofs image initramfs layer on-slurm sandbox.sh service ",
    );
    // Pages find each other where they are installed.
    let links = "grep -oh '](docs/[^)]*)' README.md | tr -d ']()'";
    work.sh(&format!("cd usr/share/doc/chainroot && ls $({links}) >/dev/null && {links} | grep -c .svg"))
        .expect(0, "2\n");
    // Once more over what is there, as an update does.
    work.sh(&format!("{BIN}; '{SCRIPTS}/install' \"$PWD/usr\" && isolate --version >/dev/null")).expect(0, "");
}

#[test]
fn every_script_says_what_it_is_for_and_does_nothing_else() {
    let work = Work::new();
    let scripts = fs::read_dir(SCRIPTS).expect("the scripts").map(|entry| entry.expect("a script").path());
    // `test` hands what it does not know to cargo, and `deny` knows no argument; with a suffix they are parts of others.
    let scripts = scripts.filter(|path| path.extension().is_none() && path.is_file());
    let scripts: Vec<_> = scripts.filter(|path| !path.ends_with("test") && !path.ends_with("deny")).collect();
    assert!(scripts.len() > 15, "{scripts:?}");
    for script in scripts {
        for option in ["-h", "--help"] {
            let outcome = work.sh(&format!("'{}' {option} </dev/null && ls", script.display()));
            assert_eq!((outcome.status, &outcome.stderr[..]), (0, ""), "{script:?} {option}");
            assert!(outcome.stdout.lines().count() >= 5, "{script:?} {option}: {}", outcome.stdout);
        }
    }
    work.sh("ls").expect(0, "");
}

#[test]
fn install_refuses_a_prefix_that_would_depend_on_where_it_is_run() {
    let work = Work::new();
    let outcome = work.sh(&format!("{BIN}; '{SCRIPTS}/install' usr"));
    assert_eq!(outcome.status, 125);
    assert!(outcome.stderr.contains("usr: PREFIX is an absolute path"), "{}", outcome.stderr);
    work.sh("ls -A").expect(0, "bin\n");
}

#[test]
fn install_and_deb_refuse_words_that_they_do_not_know() {
    let work = Work::new();
    for (line, why) in [
        ("install -x", "-x: no such option"),
        ("install /usr /opt", "/opt: there is one PREFIX"),
        ("install --uninstall usr", "usr: PREFIX is an absolute path"),
        ("install --uninstall --prefix=/usr", "--prefix=/usr: no such option"),
        ("deb -x", "-x: no such option"),
        ("deb a b", "b: there is one DIR"),
        ("release -x", "-x: no such option"),
        ("release a b", "b: there is one DIR"),
    ] {
        let name = line.split(' ').next().unwrap_or_default();
        work.sh(&format!("DESTDIR=below '{SCRIPTS}'/{line}")).expect_refusal(&[&format!("{name}: {why}"), "usage: "]);
    }
    work.sh("ls -A").expect(0, "");
}

#[test]
fn directories_of_the_caller_are_his_wherever_the_scripts_are() {
    let work = Work::new();
    // CHAINROOT_BIN, DESTDIR, and what was there before.
    let outcome = work.sh(&format!(
        "{BIN}; export CHAINROOT_BIN=bin DESTDIR=below; mkdir -p below/usr/bin
        '{SCRIPTS}/install' /usr && below/usr/bin/pivot --version >/dev/null && '{SCRIPTS}/install' --uninstall /usr
        find below ! -type d; ls -d below/usr/bin; ls below/usr/share/doc"
    ));
    outcome.expect(0, "below/usr/bin\n");
    if have("dpkg-deb") {
        let made = work.sh(&format!("{BIN}; export CHAINROOT_BIN=bin; '{SCRIPTS}/deb' packages"));
        assert!(
            made.status == 0 && made.stdout.starts_with(&format!("{}/packages/", work.path().display())),
            "{made:?}"
        );
    }
}

#[test]
fn the_package_is_the_same_for_each_builder_at_any_time() {
    if !have("dpkg-deb") {
        skip!("dpkg-deb is not installed");
    }
    let work = Work::new();
    let outcome = work.sh(&format!(
        "{BIN}; '{SCRIPTS}/deb' a >/dev/null && umask 077 && '{SCRIPTS}/deb' b >/dev/null && cmp a/*.deb b/*.deb && dpkg-deb --contents a/*.deb"
    ));
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    for line in outcome.stdout.lines() {
        assert!(line.contains(" root/root "), "{line}");
    }
    for file in ["./usr/bin/pivot", "./usr/share/man/man1/isolate.1.gz", "./usr/share/doc/chainroot/copyright"] {
        assert!(outcome.stdout.lines().any(|line| line.ends_with(file)), "no {file} in\n{}", outcome.stdout);
    }
    let maintainer = work.sh("dpkg-deb --field a/*.deb Maintainer").stdout;
    assert!(maintainer.contains("chainroot maintainers <") && maintainer.ends_with(">\n"), "{maintainer}");
}

#[test]
fn lintian_finds_no_error_in_the_package_that_is_not_explained() {
    if !have("dpkg-deb") || !have("lintian") {
        skip!("dpkg-deb or lintian is not installed");
    }
    let work = Work::new();
    // Errors and warnings; an override has its reason beside it.
    work.sh(&format!(
        "{BIN}; '{SCRIPTS}/deb' . >/dev/null && lintian --no-cfg --allow-root --fail-on error,warning *.deb"
    ))
    .expect(0, "");
}

#[test]
fn what_is_linked_in_has_its_notice() {
    if std::env::var_os("CARGO").is_none() {
        skip!("needs cargo, which is not what runs this (it is where the tests run as root)");
    }
    let work = Work::new();
    work.sh(&format!("'{SCRIPTS}/notices' --check")).expect(0, "");
    work.sh(&format!("grep -c '^zstd (C)\\|^xz, liblzma (C)\\|^musl, ' '{SCRIPTS}/../THIRD-PARTY-NOTICES'"))
        .expect(0, "3\n");
}

#[test]
fn installed_in_a_clean_debian_by_our_own_chain_the_line_runs_there() {
    needs_root!();
    let Some(debian) = debian_image("") else { skip!("no Debian image can be made here") };
    if !have("dpkg-deb") {
        skip!("dpkg-deb is not installed");
    }
    let work = Work::new();
    let prepared = work.sh(&format!(
        "{BIN}; '{SCRIPTS}/deb' . >/dev/null && unpack --quiet '{}' debian >/dev/null && mv chainroot_*.deb debian/chainroot.deb && cp '{}' debian/img.tar",
        debian.display(),
        busybox_image().display()
    ));
    assert_eq!(prepared.status, 0, "{}", prepared.stderr);
    let inside = "set -e
        test ! -e /usr/bin/isolate
        dpkg --install /chainroot.deb >/dev/null
        dpkg --verify chainroot
        command -v isolate
        cd /root
        unpack --quiet /img.tar | isolate --pid --uts -- pivot ./root -- mountclean -- sh -c 'cat /etc/image; echo $$; mount | cut -d \" \" -f 3'
        unpack --quiet /img.tar | isolate --pid --uts -- pivot ./root -- sh -c 'ls /..' | head -n 1
        useradd --create-home someone
        setpriv --reuid someone --regid someone --init-groups --inh-caps -all env HOME=/home/someone sh /as-user
        dpkg --purge chainroot >/dev/null
        ls /usr/bin/isolate /usr/share/doc/chainroot 2>/dev/null || echo removed";
    fs::write(work.join("debian/inside"), inside).expect("the script");
    let as_user = "cd && id -un && unpack --quiet /img.tar |
        isolate --user --map-root --pid --uts -- pivot ./root -- mountclean -- sh -c 'id -u; mount | cut -d \" \" -f 3'
        /usr/share/doc/chainroot/examples/container -k none /img.tar sh -c 'hostname; grep -c \"CapEff:.0*$\" /proc/self/status'";
    fs::write(work.join("debian/as-user"), as_user).expect("the script");
    work.sh("isolate --pid --uts --ipc -- pivot ./debian -- mountclean -- env PATH=/usr/sbin:/usr/bin:/sbin:/bin sh /inside")
        .expect(0, "/usr/bin/isolate\nbusybox\n1\n/\n/proc\nbin\nsomeone\n0\n/\n/proc\ncontainer\n1\nremoved\n");
}

#[test]
fn cargo_install_works_for_each_tool() {
    let Some(cargo) = std::env::var_os("CARGO") else {
        skip!("needs cargo, which is not what runs this (it is where the tests run as root)")
    };
    let work = Work::new();
    // What the tests were built in, so that no dependency is compiled anew; its directory for the target is tagged, too.
    let exe = std::env::current_exe().expect("current_exe");
    let target = exe.ancestors().filter(|dir| dir.join("CACHEDIR.TAG").exists()).last().expect("target directory");
    for tool in ["unpack", "isolate", "pivot", "mountclean"] {
        let mut command = work.command(&cargo);
        command.args(["install", "--debug", "--locked", "--quiet", "--path"]);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(tool));
        command.arg("--root").arg(work.join("cargo")).arg("--target-dir").arg(target);
        // Without the watchdog of other commands: where dependencies are compiled it does take minutes.
        let output = command.output().expect("cargo");
        assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let line = format!("cargo/bin/isolate {} --uts -- isolate -- isolate --hostname inside -- hostname", work.user());
    work.sh(&line).expect(0, "inside\n");
}

#[test]
fn roots_umask_does_not_count_and_uninstall_leaves_nothing() {
    let work = Work::new();
    let outcome = work.sh(&format!(
        "{BIN}; umask 077; DESTDIR=below/here '{SCRIPTS}/install' /usr
        find below/here/usr -type d ! -perm 755 -o -type f ! -perm -444 | head -n 3
        below/here/usr/bin/isolate --version >/dev/null && echo runs
        DESTDIR=below/here '{SCRIPTS}/install' --uninstall /usr; find below/here ! -type d"
    ));
    outcome.expect(0, "runs\n");
}

/// A clone of the commit under test, with what of the sources is not committed yet.
fn checkout(work: &Work, name: &str) {
    let copy = format!(
        "git clone -q '{SCRIPTS}/..' {name} && (cd '{SCRIPTS}/..' && git ls-files -z --cached --others --exclude-standard |
            xargs -0 cp --parents -t \"$OLDPWD/{name}\")"
    );
    work.sh(&copy).expect(0, "");
}

#[test]
fn a_release_of_the_same_binaries_is_the_same_bytes_wherever_it_is_made() {
    if std::env::var_os("CARGO").is_none() || !have("git") || !have("dpkg-deb") {
        skip!("needs git, dpkg-deb, and cargo, which is not what runs this (it is where the tests run as root)");
    }
    let work = Work::new();
    // Copied once: `cargo install` of another test makes them anew, with other features.
    checkout(&work, "one");
    checkout(&work, "two");
    let (one, two) = (work.join("out-one"), work.join("out-two"));
    work.sh(&format!("{BIN}; one/scripts/release out-one && umask 077 && two/scripts/release out-two"))
        .expect(0, &format!("{}\n{}\n", one.display(), two.display()));
    work.sh("diff -r out-one out-two && cd out-one && ls | wc -l && sha256sum --quiet -c SHA256SUMS").expect(0, "4\n");
    // The archive is what scripts/install puts below a prefix, and the tools in it run.
    let unpacked =
        "mkdir usr && tar -xzf out-one/*.tar.gz -C usr --strip-components=1 && usr/bin/unpack --version && ls usr";
    work.sh(unpacked).expect(0, &format!("unpack {}\nbin\nshare\n", env!("CARGO_PKG_VERSION")));
    // The bill of materials names each crate that is linked in as Cargo.lock has it.
    let bill: serde_json::Value =
        serde_json::from_str(&work.sh("cat out-one/*.cdx.json").stdout).expect("the bill of materials is JSON");
    let components = bill["components"].as_array().expect("components");
    let clap = components.iter().find(|component| component["name"] == "clap").expect("clap is linked in");
    let lock = fs::read_to_string(Path::new(SCRIPTS).join("../Cargo.lock")).expect("Cargo.lock");
    let checksum = clap["hashes"][0]["content"].as_str().expect("a checksum");
    assert!(lock.contains(&format!("checksum = \"{checksum}\"")), "{checksum}");
    assert!(components.iter().all(|component| component["licenses"][0]["expression"].is_string()));
}

#[test]
fn a_release_overwrites_nothing_and_wants_its_section_in_the_changelog() {
    if std::env::var_os("CARGO").is_none() || !have("git") {
        skip!("needs git, and cargo, which is not what runs this (it is where the tests run as root)");
    }
    let work = Work::new();
    checkout(&work, "one");
    work.sh("mkdir out && touch out/mine").expect(0, "");
    let full = work.sh(&format!("{BIN}; one/scripts/release out"));
    assert_eq!((full.status, full.stdout.as_str()), (125, ""));
    assert!(full.stderr.ends_with("/out: is not empty\n"), "{}", full.stderr);
    work.sh("ls out && sed -i 's/^## [0-9].*/## Unreleased/' one/CHANGELOG.md").expect(0, "mine\n");
    let unnamed = work.sh(&format!("{BIN}; one/scripts/release new"));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!((unnamed.status, unnamed.stdout.as_str()), (125, ""));
    assert_eq!(unnamed.stderr, format!("release: CHANGELOG.md: no section for {version}\n"));
}
