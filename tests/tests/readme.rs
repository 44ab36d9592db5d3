//! What the README says is so.

use std::fs;
use std::path::Path;

use chainroot_tests::{Work, have, needs_root, script, skip};

const README: &str = include_str!("../../README.md");

#[test]
fn the_readme_says_what_the_canonical_line_is_not() {
    let text = README.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("not a sandbox for an untrusted image run as real root"));
}

#[test]
fn the_readme_shows_the_table_whose_commands_a_test_runs() {
    let rows = |page: &'static str| page.lines().filter(|line| line.matches('|').count() == 8).collect::<Vec<_>>();
    assert!(rows(README).len() > 8);
    assert_eq!(rows(README), rows(include_str!("../../docs/compared.md")));
}

#[test]
fn the_readmes_times_are_those_of_the_benchmark() {
    let made = README.split("<!-- Made by scripts/bench --out docs -->").nth(1).expect("the mark");
    let rows = made.split("<!--").next().unwrap_or_default().lines().filter(|line| line.starts_with("| ")).skip(1);
    let table = include_str!("../../docs/benchmark.md");
    let mut count = 0;
    for row in rows {
        let cells: Vec<&str> = row.split(" | ").collect();
        assert!(table.contains(&format!("{} | {} | ", cells[0], cells[1])), "{row}");
        count += 1;
    }
    assert_eq!(count, 6);
}

#[test]
fn every_link_in_the_pages_leads_to_a_file() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("workspace");
    let docs = fs::read_dir(workspace.join("docs")).expect("docs").flatten().map(|entry| entry.path());
    let pages = docs.chain(["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| workspace.join(name)));
    let mut links = 0;
    for page in pages.filter(|page| page.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(&page).expect("a page");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if !link.contains("://") {
                let file = page.with_file_name(link.split('#').next().unwrap_or_default());
                assert!(file.exists(), "{}: {link}", page.display());
                links += 1;
            }
        }
    }
    assert!(links > 10, "{links}");
}

/// The lines of a recording, without what differs from one busybox to the next.
fn lines_of(svg: &str) -> Vec<String> {
    let texts = svg.lines().filter(|line| line.starts_with("<text")).filter_map(|line| line.split(['>', '<']).nth(2));
    texts.filter(|line| !line.starts_with("BusyBox v") && !line.contains("ps} sh")).map(str::to_owned).collect()
}

#[test]
fn the_recorded_session_is_what_a_terminal_shows_today() {
    needs_root!();
    if let Some(missing) = ["tmux", "busybox"].into_iter().find(|program| !have(program)) {
        skip!("{missing} is not installed");
    }
    let recorded = lines_of(include_str!("../../docs/session.svg"));
    assert!(recorded.len() > 12, "{recorded:?}");
    let line = recorded[0].strip_prefix("host# ").expect("the first line is typed");
    assert!(README.contains("](docs/session.svg)") && README.contains(line));
    let work = Work::new();
    let record = work.sh(&format!("CHAINROOT_BIN=$(dirname $(command -v unpack)) {} now.svg", script("record")));
    record.expect(0, "");
    let now = fs::read_to_string(work.join("now.svg")).expect("a recording");
    assert_eq!(lines_of(&now), recorded);
}

#[test]
fn the_demo_puts_a_newcomer_in_a_container() {
    let work = Work::new();
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/demo");
    let line = format!(
        "export CHAINROOT_BIN=$(dirname $(command -v unpack)) CHAINROOT_DEMO_DIR=$PWD/demo; '{demo}' -- sh -c 'echo $$; hostname; mount | cut -d \" \" -f 3 | grep -v ^/dev; test -c /dev/null && id -u'"
    );
    let shows = "1\ndemo\n/\n/proc\n0\n";
    for _ in 0..2 {
        work.sh(&line).expect(0, shows);
    }
    // The line that it says it runs does the same.
    let stderr = work.sh(&line).stderr;
    let typed = stderr.lines().find_map(|line| line.strip_prefix("demo: unpack")).expect("the line");
    work.sh(&format!("cd demo && unpack{typed}")).expect(0, shows);
}

#[test]
fn the_demo_takes_any_image_and_its_own_again() {
    let work = Work::new();
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/demo");
    let demo = format!("CHAINROOT_BIN=$(dirname $(command -v unpack)) CHAINROOT_DEMO_DIR=$PWD/demo '{demo}'");
    let image = chainroot_tests::busybox_image().display().to_string();
    for _ in 0..2 {
        work.sh(&format!("{demo} -- hostname")).expect(0, "demo\n");
        work.sh(&format!("{demo} '{image}' -- cat /etc/image")).expect(0, "busybox\n");
    }
    // Another image of that name, then one that has changed.
    work.sh(&format!("mkdir one && echo one >one/name && tar -xf '{image}' -C one && tar -C one -cf busybox.tar ."));
    work.sh(&format!("{demo} busybox.tar -- cat /name")).expect(0, "one\n");
    work.sh("echo two >one/name && tar -C one -cf busybox.tar .").expect(0, "");
    work.sh(&format!("{demo} busybox.tar -- cat /name")).expect(0, "two\n");
    let missing = work.sh(&format!("{demo} none.tar -- true"));
    assert!(missing.status == 125 && missing.stderr.contains("none.tar"), "{}", missing.stderr);
}

#[test]
fn the_demo_has_what_people_try_first_with_busybox_and_without() {
    let work = Work::new();
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/demo");
    let demo = format!("CHAINROOT_BIN=$(dirname $(command -v unpack)) CHAINROOT_DEMO_DIR=$PWD/$demo '{demo}'");
    // A device is no program.
    let hidden =
        "for file in /bin/busybox /usr/bin/busybox; do mount --bind /dev/null $file; done; ! command -v busybox";
    for (dir, machine) in [("with", "true"), ("without", hidden)] {
        let tries = "echo hello; env | grep -q ^PATH= && id -u; ps >/dev/null && true && ls /etc/passwd";
        let line = format!("{machine} && demo={dir} && {demo} -- sh -c 'hostname; {tries}'");
        std::fs::write(work.join("line"), line).expect("the line");
        work.sh(&format!("isolate {} --mount -- sh line", work.user())).expect(0, "demo\nhello\n0\n/etc/passwd\n");
    }
}
