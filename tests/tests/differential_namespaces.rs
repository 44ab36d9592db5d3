//! The same container asked of bubblewrap, of runc and of our chain: every difference is one that
//! docs/differences.md explains, and every one that it explains is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use chainroot_tests::{Work, busybox_image, have, needs_root, skip};

/// What a process can see of where it is, as `key value` lines. The arguments are the host's namespaces.
const LOOK: &str = r#"
for name in mnt pid uts ipc net user cgroup time; do
    case " $* " in
    *" $(readlink /proc/self/ns/$name) "*) echo "namespace $name: the host's" ;;
    *) echo "namespace $name: a new one" ;;
    esac
done
while read -r _ _ _ _ point options rest; do
    case $point in
    /proc/*) echo "mounts below /proc: some, read-only" ;;
    *) for flag in nosuid nodev noexec ro; do
        case ",$options," in *",$flag,"*) echo "mount $point $flag: yes" ;; *) echo "mount $point $flag: no" ;; esac
    done ;;
    esac
done </proc/self/mountinfo
while read -r name value; do
    case $name in
    CapInh: | CapPrm: | CapEff: | CapBnd: | CapAmb: | NoNewPrivs: | Seccomp:) echo "$name $value" ;;
    esac
done </proc/self/status
echo "process id: $$"
read -r _ _ _ _ _ session _ </proc/self/stat
[ "$session" = 0 ] && echo "session: the caller's" || echo "session: its own"
echo "working directory: $(pwd)"
[ -n "$CHAINROOT_TEST" ] && echo "environment: the caller's" || echo "environment: the image's"
[ -e /dev/null ] && echo "/dev/null: made" || echo "/dev/null: as the image has it"
[ "$(hostname)" = "$HOST" ] && echo "hostname: the host's" || echo "hostname: another"
echo "umask: $(umask)"
for fd in 3 4 5 6 7 8 9; do [ -e /proc/$$/fd/$fd ] && echo "descriptor $fd: open"; done
:
"#;

fn facts(output: &str) -> BTreeMap<String, String> {
    // How many capabilities there are depends on the kernel.
    let own = fs::read_to_string("/proc/self/status").expect("status");
    let all = own.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).expect("CapBnd").to_owned();
    let shown = |value: &str| if value == all { "all".to_owned() } else { value.to_owned() };
    let pair = |line: &str| line.split_once(": ").map(|(key, value)| (key.to_owned(), shown(value)));
    output.lines().filter_map(pair).collect()
}

/// `with: what is theirs; ours`, for everything that is not the same.
fn differences(with: &str, ours: &BTreeMap<String, String>, theirs: &BTreeMap<String, String>) -> BTreeSet<String> {
    let keys: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    let mut found = BTreeSet::new();
    for key in keys.into_iter().filter(|key| ours.get(*key) != theirs.get(*key)) {
        let of = |facts: &BTreeMap<String, String>| facts.get(key).map_or("none", String::as_str).to_owned();
        found.insert(format!("{with}: {key}: {}; ours: {}", of(theirs), of(ours)));
    }
    found
}

#[test]
fn every_difference_from_bubblewrap_and_runc_is_explained() {
    needs_root!();
    for program in ["bwrap", "runc", "python3"] {
        if !have(program) {
            skip!("{program} is not installed");
        }
    }
    let work = Work::new();
    let image = busybox_image();
    fs::write(work.join("look"), LOOK).expect("write");
    let script = format!(
        r#"set -e
        unpack --quiet {} >/dev/null
        unpack --quiet --bundle bundle {} >/dev/null
        cp look root/ && cp look bundle/rootfs/
        python3 - <<'END'
import json
config = json.load(open("bundle/config.json"))
config["process"]["args"] = ["sh", "/look", *open("host").read().split()]
config["process"]["env"].append("HOST=" + open("/proc/sys/kernel/hostname").read().strip())
config["mounts"] = [mount for mount in config["mounts"] if mount["destination"] == "/proc"]
config["linux"]["namespaces"] = [dict(type=kind) for kind in ("mount", "pid", "uts", "ipc")]
for key in ("maskedPaths", "readonlyPaths", "seccomp"):
    config["linux"].pop(key, None)
json.dump(config, open("bundle/config.json", "w"))
END"#,
        image.display(),
        image.display()
    );
    let namespace =
        |name: &str| fs::read_link(Path::new("/proc/self/ns").join(name)).expect("namespace").display().to_string();
    let host = ["mnt", "pid", "uts", "ipc", "net", "user", "cgroup", "time"].map(namespace).join(" ");
    fs::write(work.join("host"), &host).expect("write");
    let outcome = work.sh(&script);
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    let look = |line: &str| {
        let outcome = work.sh(&format!("export HOST=$(hostname); {line}"));
        assert_eq!(outcome.status, 0, "{line}: {}", outcome.stderr);
        facts(&outcome.stdout)
    };
    let names = host.split(' ').map(|name| format!("'{name}'")).collect::<Vec<_>>().join(" ");
    let ours = look(&format!("isolate --mount --pid --uts --ipc -- pivot root -- mountclean -- sh /look {names}"));
    let bwrap =
        look(&format!("bwrap --unshare-pid --unshare-uts --unshare-ipc --bind root / --proc /proc sh /look {names}"));
    let runc = look(&format!("runc --root $PWD/state run --bundle bundle chainroot-{}", std::process::id()));
    let mut found = differences("bwrap", &ours, &bwrap);
    found.append(&mut differences("runc", &ours, &runc));

    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/differences.md");
    let page = fs::read_to_string(&page).expect("docs/differences.md");
    let explained = page.split('`').skip(1).step_by(2);
    let explained: BTreeSet<String> =
        explained.filter(|text| text.starts_with("bwrap: ") || text.starts_with("runc: ")).map(str::to_owned).collect();
    assert_eq!(found, explained, "found, and explained in docs/differences.md");
}
