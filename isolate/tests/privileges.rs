//! Capabilities, no_new_privs and system call filters.

mod bench;

use bench::{as_nobody, as_root, have, isolate, sh};

const STATUS: [&str; 3] = ["grep", "-E", "^(Cap|NoNew|Seccomp:)"];

fn field(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).trim().to_owned()
}

fn status(options: &[&str]) -> String {
    let outcome = as_root([options, &STATUS, &["/proc/self/status"]].concat());
    assert_eq!(outcome.status, 0, "{outcome:?}");
    outcome.stdout
}

#[test]
fn cap_drop_all_leaves_nothing_in_any_set() {
    let status = status(&["--cap-drop", "ALL"]);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(&status, set), "0000000000000000", "{set}");
    }
}

#[test]
fn cap_keep_and_cap_add_bound_what_root_has() {
    let bound = |options: &[&str]| field(&status(options), "CapBnd");
    assert_eq!(bound(&["--cap-keep", "chown,CAP_KILL"]), "0000000000000021");
    assert_eq!(bound(&["--cap-drop", "ALL", "--cap-add", "net_bind_service"]), "0000000000000400");
    assert_eq!(bound(&["--cap-keep", "default"]), "00000000a80425fb");
    isolate(["--cap-drop", "nonesuch", "true"]).refused("no such capability");
}

#[test]
fn a_switched_user_has_the_added_ones_and_no_other() {
    needs_root!();
    let status = status(&["--setuid", "65534", "--setgid", "65534", "--cap-add", "net_bind_service"]);
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(&status, set), "0000000000000400", "{set}");
    }
}

#[test]
fn capabilities_that_could_be_inherited_are_bounded_too() {
    needs_root!();
    if !have("setpriv") {
        skip!("setpriv is not installed");
    }
    // A file's inheritable set would give them back to a process that executes it (capabilities(7)).
    let inheritable = |options: &str| {
        let script =
            format!("setpriv --inh-caps=+chown,+net_raw {} {options} grep -E '^Cap' /proc/self/status", bench::ISOLATE);
        field(&sh(&script).stdout, "CapInh")
    };
    assert_eq!(inheritable("--uts"), "0000000000002001", "what the caller had where nothing was asked");
    for options in ["--cap-drop ALL", "--cap-keep chown", "--cap-drop net_raw", "--cap-keep chown --setuid 65534"] {
        assert_eq!(inheritable(options), "0000000000000000", "{options}");
    }
    assert_eq!(inheritable("--cap-drop ALL --cap-add chown --setuid 65534"), "0000000000000001");
}

#[test]
fn keep_caps_keeps_those_of_the_user_namespace() {
    let status = |options: &[&str]| as_nobody([options, &STATUS, &["/proc/self/status"]].concat()).stdout;
    assert_eq!(field(&status(&["--map-current"]), "CapEff"), "0000000000000000");
    assert_ne!(field(&status(&["--map-current", "--keep-caps"]), "CapEff"), "0000000000000000");
}

#[test]
fn what_the_kernel_refuses_is_an_error() {
    needs_root!();
    as_nobody(["--cap-drop", "ALL", "true"]).refused("CAP_SETPCAP");
    as_nobody(["--cap-add", "sys_admin", "true"]).refused("it is not there to be kept");
    as_nobody(["--seccomp", "default", "true"]).refused("add --no-new-privs");
}

#[test]
fn no_new_privs_stays_with_the_command() {
    assert_eq!(field(&status(&["--no-new-privs"]), "NoNewPrivs"), "1");
    assert_eq!(field(&status(&[]), "NoNewPrivs"), "0");
}

#[test]
fn the_default_filter_is_loaded_with_and_without_no_new_privs() {
    for options in [&["--seccomp", "default"][..], &["--seccomp", "default", "--no-new-privs", "--cap-drop", "ALL"]] {
        let status = status(options);
        assert_eq!(field(&status, "Seccomp"), "2", "{options:?}");
    }
}

#[test]
fn the_default_filter_refuses_what_it_says() {
    if sh("python3 -c 'import ctypes' 2>/dev/null").status != 0 {
        skip!("no python3 with ctypes");
    }
    // Number by number on x86-64; each gives EPERM, and not what bad arguments would give.
    if cfg!(not(target_arch = "x86_64")) {
        skip!("the numbers are those of x86-64");
    }
    let script = "
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(*args):
    ctypes.set_errno(0)
    return ctypes.get_errno() if libc.syscall(*map(ctypes.c_long, args)) == -1 else 0
calls = dict(mount=165, keyctl=250, bpf=321, open_by_handle_at=304, perf_event_open=298, pidfd_getfd=438,
    userfaultfd=323, io_uring_setup=425, open_tree=428, setns=308, add_key=248, init_module=175, kexec_load=246)
for name, number in calls.items():
    print(name, call(number, -1, -1, -1, -1, -1) == 1)
print('unshare user', call(272, 0x10000000) == 1)
print('unshare files', call(272, 0x400) == 0)
print('clone user', call(56, 0x10000000 | 17, 0, 0, 0, 0) == 1)
print('clone3', call(435, 0, 0) == 38)
print('TIOCSTI', call(16, 0, 0x5412, 0) == 1, call(16, 0, 0x5412 | 1 << 40, 0) == 1)
print('TIOCLINUX', call(16, 0, 0x541c, 0) == 1)
print('families', [family for family in range(60) if call(41, family, 1, 0) != 97 and family in (12, 19, 20, 23, 25, 34, 37, 38, 40, 46, 59)] == [])
print('AF_ALG', call(41, 38 | 1 << 40, 1, 0) == 97)
print('personality', [call(135, value) for value in (0xffffffff, 0x20008, 0x20000, 8, 0)] == [0] * 5)
print('other personalities', {call(135, value) for value in (0x40000, 0x400000, 0x100000, 9, 0x60000)} == {1})
print('ptrace and kcmp', call(101, -1, 1, 0, 0) != 1, call(312, os.getpid(), os.getpid(), 1, 0, 0) == 0)
print('process_vm', call(310, os.getpid(), 0, 0, 0, 0, 0) == 0)
print('newer', call(470) == 38)
child = os.fork()
if child == 0:
    call(0x40000000 + 39)
    os._exit(0)
print('x32', os.WTERMSIG(os.waitpid(child, 0)[1]) == 31)
print('getpid', call(39) == 0)
";
    let outcome = as_root(["--seccomp", "default", "python3", "-c", script]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    for line in outcome.stdout.lines() {
        assert!(!line.contains("False"), "{line}");
    }
    assert_eq!(outcome.stdout.lines().count(), 28, "{outcome:?}");
}

#[test]
fn a_runtimes_profile_is_taken_as_it_is() {
    let dir = tempfile::tempdir().expect("tempdir");
    let file = dir.path().join("profile.json");
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [
        {"names": ["mkdir", "mkdirat", "s390_runtime_instr"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
        {"names": ["getppid"], "action": "SCMP_ACT_KILL_PROCESS", "args": []},
        {"names": ["rmdir", "unlinkat"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_SYS_ADMIN"]}, "args": null}
    ]}"#;
    std::fs::write(&file, profile).expect("write");
    let file = file.to_str().expect("text");
    let outcome = as_root(["--seccomp", file, "mkdir", "/tmp/never-made"]);
    assert!(outcome.status == 1 && outcome.stderr.contains("No space left"), "{outcome:?}");
    let outcome = as_root(["--seccomp", file, "rmdir", "/tmp/never-made"]);
    assert!(outcome.stderr.contains("not permitted"), "{outcome:?}");
    let outcome = as_root(["--no-new-privs", "--cap-drop", "ALL", "--seccomp", file, "rmdir", "/tmp/never-made"]);
    assert!(outcome.stderr.contains("No such file"), "{outcome:?}");
    if have("python3") {
        let outcome = as_root(["--seccomp", file, "python3", "-c", "import os; os.getppid()"]);
        assert_eq!(outcome.status, 128 + 31, "{outcome:?}");
    }
}

#[test]
fn a_bad_profile_is_an_error_with_its_line() {
    let dir = tempfile::tempdir().expect("tempdir");
    let file = dir.path().join("profile.json");
    std::fs::write(
        &file,
        "{\"defaultAction\": \"SCMP_ACT_ALLOW\",\n\"syscalls\": [\n{\"names\": [], \"action\": \"BAD\"}]}",
    )
    .expect("write");
    isolate(["--seccomp", file.to_str().expect("text"), "true"]).refused("line 3");
    isolate(["--seccomp", "/no/such/profile", "true"]).refused("/no/such/profile");
}

#[test]
fn words_edit_the_default_filter_and_explain_prints_it() {
    let hostname = |filter: &str| sh(&format!("$ISOLATE $U --uts --seccomp {filter} sh -c 'hostname row && hostname'"));
    assert_ne!(hostname("default").status, 0);
    assert_eq!(hostname("default,+sethostname").good(), "row");
    assert_ne!(hostname("default,+sethostname,-sethostname").status, 0);
    assert_ne!(sh("cd $(mktemp -d); $ISOLATE $U --fork --seccomp default,-mkdir,-mkdirat mkdir row").status, 0);
    isolate(["--seccomp", "default,+mkdri", "true"]).refused("mkdri: no system call has this name");
    isolate(["--seccomp", "default,mkdir", "true"]).refused("mkdir is none of default, fakeroot, +NAME, -NAME");
    let shown = isolate(["--explain", "--seccomp", "default,-mkdir", "true"]).good();
    for line in [
        "#   every system call: is allowed",
        "#   clone3: ENOSYS",
        "#   ioctl: EPERM, where argument 1 & 0xffffffff == 0x5412",
        "#   mkdir: EPERM",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    assert!(shown.contains(" pivot_root "), "{shown}");
}

/// As charliecloud and apptainer do it for package managers.
#[test]
fn a_user_with_one_id_can_play_root() {
    let play = |filter: &str| {
        sh(&format!(
            "d=$(mktemp -d); cd $d; touch f; $ISOLATE --map-root {filter} -- sh -c 'chown 5:5 f && chgrp -h 7 f &&
                setpriv --reuid=9 --regid=9 --clear-groups id -u && stat -c %u:%g f'; s=$?; rm -r $d; exit $s"
        ))
    };
    assert_ne!(play("").status, 0);
    assert_eq!(play("--seccomp fakeroot").good(), "0\n0:0");
    assert_eq!(play("--seccomp default,fakeroot").good(), "0\n0:0");
    assert_ne!(play("--seccomp fakeroot,+fchownat,+chown").status, 0);
}

/// What `--seccomp` says of a profile whose text this is.
fn with_profile(text: &str, words: &[&str]) -> bench::Outcome {
    let dir = tempfile::tempdir().expect("tempdir");
    let file = dir.path().join("profile.json");
    std::fs::write(&file, text).expect("write");
    as_root([&["--seccomp", file.to_str().expect("text")][..], words].concat())
}

#[test]
fn a_profile_that_asks_for_what_is_not_understood_is_an_error() {
    let allow = |rest: &str| format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", {rest}}}"#);
    for (rest, part) in [
        (r#""sycalls": []"#, "unknown field `sycalls`"),
        (r#""syscalls": [{"names": ["mkdri"], "action": "SCMP_ACT_ERRNO"}]"#, "mkdri: no system call"),
        (r#""syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "exclude": {}}]"#, "unknown field `exclude`"),
        (r#""syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errno": "ENOPERM"}]"#, "ENOPERM: no such"),
        (r#""syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 70000}]"#, "at most 4095"),
        (r#""syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]"#, "SCMP_ACT_NOTIFY"),
        (r#""architectures": ["x86"]"#, "x86: no such architecture"),
        (r#""flags": ["SECCOMP_FILTER_FLAG_FAST"]"#, "SECCOMP_FILTER_FLAG_FAST"),
    ] {
        with_profile(&allow(rest), &["true"]).refused(part);
    }
}

#[test]
fn what_moby_and_podman_have_beyond_the_specification_is_understood() {
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1, "defaultErrno": "EPERM",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]}],
        "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"], "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "comment": "", "errno": "EXDEV", "errnoRet": 1,
         "includes": {}, "excludes": {"minKernel": "99.0"}},
        {"names": ["call_of_linux_9"], "action": "SCMP_ACT_ALLOW"}]}"#;
    let outcome = with_profile(profile, &["mkdir", "/tmp/never-made"]);
    assert!(outcome.status == 1 && outcome.stderr.contains("cross-device"), "{outcome:?}");
    let installed = "/usr/share/containers/seccomp.json";
    if !std::path::Path::new(installed).exists() {
        skip!("no {installed} (golang-github-containers-common)");
    }
    assert_eq!(as_root(["--seccomp", installed, "echo", "podman's"]).good(), "podman's");
}

/// A filter that answers ENOSYS to another machine's calls, exit(2) included, lets its programs run on past their end.
#[test]
fn a_32_bit_program_runs_under_its_own_table_or_is_ended() {
    let dir = tempfile::tempdir().expect("tempdir");
    std::fs::write(dir.path().join("old.c"), OLD_PROGRAM).expect("write");
    let build = "cc -m32 -static -nostdlib -ffreestanding -fno-pic -no-pie -fno-stack-protector";
    let made = sh(&format!("cd '{}' && {build} -o old old.c && ./old", dir.path().display()));
    if made.status != 5 {
        skip!("no 32-bit programs here");
    }
    let old = dir.path().join("old");
    let old = old.to_str().expect("text");
    // 5 and 6: how many of its calls were refused.
    assert_eq!(as_root(["--seccomp", "default", old]).status, 6, "the default names them");
    let profile = |architectures: &str| {
        let rule = r#"{"names": ["umount", "umount2"], "action": "SCMP_ACT_ERRNO"}"#;
        format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", {architectures} "syscalls": [{rule}]}}"#)
    };
    assert_eq!(with_profile(&profile(r#""architectures": ["SCMP_ARCH_X86"],"#), &[old]).status, 6);
    // SIGSYS: of a machine that the profile does not name.
    assert_eq!(with_profile(&profile(""), &[old]).status, 128 + 31);
}

/// Without a C library: leaves with 5, or with 6 where oldumount (number 22) is refused for lack of permission and not
/// of a file. Where exit itself is not let through it never ends.
const OLD_PROGRAM: &str = r#"
static int call(int number, long a)
{
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(0), "d"(0) : "memory");
    return result;
}
void _start(void)
{
    call(1, call(22, (long)"/no/such/directory") == -1 ? 6 : 5);
}
"#;

#[test]
fn a_tracer_works_under_the_default_filter() {
    if !have("strace") {
        skip!("no strace");
    }
    let outcome = as_root(["--seccomp", "default", "--no-new-privs", "strace", "-f", "-e", "trace=none", "true"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
}

#[test]
fn root_of_the_host_without_capabilities_is_warned_of_sysctls() {
    needs_root!();
    let outcome = isolate(["--cap-drop", "ALL", "true"]);
    assert!(outcome.stderr.contains("mountclean --mask"), "{outcome:?}");
    assert_eq!(isolate(["--map-root", "--cap-drop", "ALL", "true"]).good(), "");
}

#[test]
fn a_clean_environment_has_three_variables() {
    let outcome = sh("SECRET=1 $ISOLATE --clean-env env | sed 's/=.*//' | sort | tr '\\n' ' '");
    assert_eq!(outcome.good(), "HOME PATH TERM");
}
