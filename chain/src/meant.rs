//! Options of other programs, by what the typist wants: what is spelled likest may mean something else (--ro is not --root).

use crate::Tool;

use Tool::{Isolate, Mountclean, Pivot, Unpack};

/// Tools, what was typed, and what does that here.
const MEANT: &[(&[Tool], &[&str], &str)] = &[
    (&[Pivot], &["--ro", "--readonly", "-r"], "pivot --read-only ROOT -- COMMAND"),
    (&[Pivot, Isolate], &["--rm"], "changes that vanish at the end: pivot --ephemeral ROOT -- COMMAND"),
    (&[Pivot, Isolate], &["-b", "--volume"], "pivot --bind SRC:DST ROOT -- COMMAND"),
    (&[Isolate], &["--bind"], "pivot --bind SRC:DST ROOT -- COMMAND"),
    (&[Pivot], &["--ro-bind"], "pivot --bind SRC:DST:ro ROOT -- COMMAND"),
    (&[Pivot], &["-e"], "pivot --env NAME=VALUE ROOT -- COMMAND"),
    (&[Isolate, Mountclean], &["-e", "--env", "--setenv"], "isolate … -- env NAME=VALUE COMMAND, or pivot --env"),
    (&[Pivot], &["--setenv"], "pivot --env NAME=VALUE ROOT -- COMMAND"),
    (&[Pivot], &["-w", "--workdir", "--wd"], "pivot --chdir DIR ROOT -- COMMAND"),
    (&[Isolate], &["--workdir", "--chdir"], "isolate --wd DIR"),
    (&[Unpack], &["--tag", "--name", "--image", "-t"], "an image of several is chosen with --ref NAME"),
    (&[Unpack], &["-C", "--directory"], "the directory is an operand: unpack IMAGE ROOT"),
    (&[Unpack], &["-x", "-f", "-xf", "-xpf"], "unpack IMAGE ROOT"),
    (&[Unpack], &["--force", "-o", "--overwrite"], "unpack --replace IMAGE ROOT"),
    (&[Isolate], &["--unshare-pid"], "isolate --pid"),
    (&[Isolate], &["--unshare-net"], "isolate --net"),
    (&[Isolate], &["--unshare-uts"], "isolate --uts"),
    (&[Isolate], &["--unshare-ipc"], "isolate --ipc"),
    (&[Isolate], &["--unshare-user"], "isolate --user --map-root"),
    (&[Isolate], &["--unshare-cgroup"], "isolate --cgroup"),
    (&[Isolate], &["--unshare-all"], "isolate --all"),
    (&[Isolate], &["--target"], "isolate --join PID"),
    (&[Isolate], &["-it", "-t", "--tty", "--interactive"], "COMMAND has your terminal already; one of its own: --pty"),
    (&[Isolate], &["--network"], "isolate --net"),
    (&[Isolate], &["--uid"], "isolate --map-user USER, or --setuid USER"),
    (&[Isolate], &["--gid"], "isolate --map-group GROUP, or --setgid GROUP"),
];

/// What to type for an option that the tool does not have.
pub(crate) fn meant(tool: Tool, option: &str) -> Option<&'static str> {
    let name = option.split('=').next().unwrap_or(option);
    let of = |&&(tools, names, _): &&(&[Tool], &[&str], &str)| tools.contains(&tool) && names.contains(&name);
    MEANT.iter().find(of).map(|&(_, _, hint)| hint)
}
