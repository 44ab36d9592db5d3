//! The options of unshare(1) and nsenter(1), as docs/compared.md lists them: each row has a line that shows it.

mod bench;

use bench::sh;

const PAGE: &str = include_str!("../../docs/compared.md");

/// The first column and the line of each row below this heading of a table.
fn rows(heading: &str) -> Vec<(&'static str, &'static str)> {
    let (_, table) = PAGE.split_once(&format!("| {heading} | isolate | as in |\n|---|---|---|\n")).expect("the table");
    let rows = table.lines().take_while(|line| line.starts_with("| "));
    rows.map(|row| {
        let columns: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        assert_eq!(columns.len(), 3, "{row}");
        (columns[0].trim(), columns[2].trim().trim_matches('`'))
    })
    .collect()
}

/// Runs the line as root of a user namespace, with isolate on PATH.
fn shown(row: &str, line: &str, around: impl Fn(&str) -> String) {
    // Each command of the line counts, also one that is negated.
    let line = line.split("; ").map(|part| format!("{part} || exit 1")).collect::<Vec<_>>();
    let line = if row.contains("load-interp") {
        line.join("; ").replace("|| exit 1; grep", "; grep")
    } else {
        line.join("\n")
    };
    let script = around(&line).replace('\'', r"'\''");
    let outcome = sh(&format!(
        "d=$(mktemp -d); ln -s $ISOLATE $d/isolate; export PATH=$d:$PATH; cd $d
        isolate --map-root --mount -- sh -c '{script}'; s=$?; cd /; rm -r $d; exit $s"
    ));
    assert_eq!(outcome.status, 0, "{row}: {outcome:?}");
}

/// Since Linux 6.7 a user namespace may have its own.
fn has_binfmt_of_its_own() -> bool {
    sh("unshare --user --map-root-user --mount mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc").status == 0
}

#[test]
fn each_option_of_unshare_is_as_the_table_says() {
    let rows = rows("unshare");
    assert!(rows.len() > 35, "{}", rows.len());
    for (row, line) in rows {
        if line.contains("--mount-binfmt") && !has_binfmt_of_its_own() {
            continue;
        }
        shown(row, line, str::to_owned);
    }
}

#[test]
fn each_option_of_nsenter_is_as_the_table_says() {
    let rows = rows("nsenter");
    assert!(rows.len() > 14, "{}", rows.len());
    for (row, line) in rows {
        shown(row, line, |line| {
            format!(
                "mkfifo up
                isolate --uts --net --pid --status-fd 3 -- env ROW=1 sh -c \"cd /proc; echo >&4; exec sleep 1000\" 3>status 4>up &
                read x <up; P=$(sed -n \"s/.*pid.:\\([0-9]*\\)[^0-9].*started.*/\\1/p; s/.*started.*pid.:\\([0-9]*\\).*/\\1/p\" status)
                test -n \"$P\" || exit 2
                (
{line}
                ); s=$?; kill -9 $!; wait $! 2>/dev/null; exit $s"
            )
        });
    }
}
