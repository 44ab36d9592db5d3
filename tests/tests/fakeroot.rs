//! `isolate --seccomp fakeroot`: a package manager for a user who has no subordinate ids.

use chainroot_tests::{Work, debian_image, skip};

/// A package with a file of another user's in its archive, one of a user whom it makes, and a setuid bit; in a repository
/// of its own. `file:` needs no network.
const PACKAGE: &str = r#"set -e
    mkdir -p greet/DEBIAN greet/usr/share/greet /srv/repo /etc/dpkg/dpkg.cfg.d
    echo force-unsafe-io >/etc/dpkg/dpkg.cfg.d/no-sync
    echo hello >greet/usr/share/greet/text
    cat >greet/DEBIAN/control <<-CONTROL
	Package: greet
	Version: 1
	Architecture: all
	Maintainer: Nobody <nobody@example.org>
	Description: says hello
	CONTROL
    cat >greet/DEBIAN/postinst <<-'SCRIPT'
	#!/bin/sh
	set -e
	adduser --quiet --system --group --no-create-home greet
	echo mine >/usr/share/greet/made
	chown greet:greet /usr/share/greet/made
	chmod 4755 /usr/share/greet/made
	su --shell /bin/sh --command 'echo of the new user' greet
	SCRIPT
    chmod 755 greet/DEBIAN/postinst
    echo 2.0 >debian-binary
    tar --owner 0 --group 0 -C greet/DEBIAN -cf control.tar .
    tar --owner 33 --group 33 -C greet -cf data.tar ./usr/share/greet
    member() {
        printf '%-16s%-12s%-6s%-6s%-8s%-10s`\n' "$1" 0 0 0 100644 "$(stat --format %s "$1")"
        cat "$1"
    }
    { printf '!<arch>\n'; member debian-binary; member control.tar; member data.tar; } >/srv/repo/greet.deb
    cd /srv/repo
    { dpkg-deb --field greet.deb; echo "Filename: ./greet.deb"; echo "Size: $(stat --format %s greet.deb)"
      echo "SHA256: $(sha256sum greet.deb | cut -d ' ' -f 1)"; echo; } >Packages
    rm -rf /etc/apt/sources.list.d/*
    echo 'deb [trusted=yes] file:/srv/repo ./' >/etc/apt/sources.list"#;

const INSTALL: &str = "export DEBIAN_FRONTEND=noninteractive; apt-get --quiet update -o APT::Sandbox::User=root &&
    apt-get --quiet install --reinstall -y greet -o APT::Sandbox::User=root";

#[test]
fn apt_get_install_runs_without_subordinate_ids() {
    let Some(image) = debian_image("") else { skip!("no Debian image") };
    let work = Work::new();
    let with = |options: &str, script: &str| {
        std::fs::write(work.join("script"), script).expect("the script");
        let chain = "pivot --dev --bind ./script:/script:ro root -- mountclean -- sh -c 'cd /tmp; . /script'";
        work.sh(&format!("isolate --map-root --pid {options} -- {chain} 2>&1"))
    };
    work.sh(&format!("unpack --quiet --owner squash '{}' >/dev/null", image.display())).expect(0, "");
    let made = with("--seccomp fakeroot", PACKAGE);
    assert_eq!(made.status, 0, "{}", made.stdout);
    let installed = with("--seccomp fakeroot", INSTALL);
    assert_eq!(installed.status, 0, "{}", installed.stdout);
    assert!(installed.stdout.contains("of the new user"), "{}", installed.stdout);
    let state = "dpkg-query --show --showformat '${Status}\\n' greet; id --user --name $(id -u greet)
        stat --format '%A %u:%g' /usr/share/greet/made; cat /usr/share/greet/text";
    with("", state).expect(0, "install ok installed\ngreet\n-rwsr-xr-x 0:0\nhello\n");
    // Without it the kernel refuses, so it is this that helps.
    let refused = with("", INSTALL);
    let by_dpkg = refused.stdout.contains("error setting ownership of './usr/share/greet/text'");
    assert!(refused.status != 0 && by_dpkg, "{}", refused.stdout);
}
