//! The tutorial's transcripts are what a person sees who types them at a terminal.

use chainroot_tests::{Terminal, Work, busybox_image, have, is_root, needs_root, script, skip};

const TUTORIAL: &str = include_str!("../../docs/tutorial.md");
const COMPARED: &str = include_str!("../../docs/compared.md");
const OUT: &str = include_str!("../../docs/out.md");

/// What is typed at a prompt, and what is printed then.
struct Exchange<'a> {
    typed: &'a str,
    printed: Vec<&'a str>,
}

/// The blocks fenced as ```console, in their order, each with its prompt.
fn console(page: &str) -> Vec<(&str, Vec<Exchange<'_>>)> {
    let mut blocks = Vec::new();
    for block in page.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        let prompt = &block[..2];
        let mut exchanges: Vec<Exchange> = Vec::new();
        for line in block.lines() {
            match (line.strip_prefix(prompt), exchanges.last_mut()) {
                (Some(typed), _) => exchanges.push(Exchange { typed, printed: Vec::new() }),
                (None, Some(last)) => last.printed.push(line),
                (None, None) => unreachable!("the block starts with a prompt"),
            }
        }
        blocks.push((prompt, exchanges));
    }
    blocks
}

/// Those with this prompt.
fn transcripts<'a>(page: &'a str, prompt: &str) -> Vec<Vec<Exchange<'a>>> {
    console(page).into_iter().filter(|(its, _)| *its == prompt).map(|(_, block)| block).collect()
}

/// Whether the text is the pattern's, where … stands for anything and, alone on a line, for any lines.
fn like(pattern: &[&str], text: &[&str]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        (["…", rest @ ..], _) => (0..=text.len()).any(|skip| like(rest, &text[skip..])),
        ([first, rest @ ..], [line, lines @ ..]) => line_like(first, line) && like(rest, lines),
        _ => false,
    }
}

fn line_like(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('…');
    let Some(mut left) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return left.is_empty() };
    for part in middle {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(last)
}

/// A prompt that nothing else prints.
const PROMPT: &str = "<?>";

/// The image's shell introduces itself, and a job's end is reported before whichever prompt comes next.
fn is_chatter(line: &str) -> bool {
    line.is_empty() || ["[1] + ", "BusyBox v", "Enter 'help' for "].iter().any(|begin| line.starts_with(begin))
}

/// busybox's line editor asks the terminal where its cursor is.
const CURSOR: &str = "\x1b[6n";

fn begin(terminal: &mut Terminal) {
    // Spelled so that its echo is no prompt.
    terminal.send("export PS1='<''?>'\n");
    terminal.expect(PROMPT);
}

fn follow(terminal: &mut Terminal, block: &[Exchange]) {
    for exchange in block {
        terminal.send(&format!("{}\n", exchange.typed));
        let seen = terminal.expect(PROMPT).replace('\r', "").replace(CURSOR, "");
        let printed = seen.strip_prefix(exchange.typed).unwrap_or(&seen).lines();
        let printed: Vec<&str> = printed.filter(|line| !is_chatter(line)).collect();
        assert!(
            like(&exchange.printed, &printed),
            "{}\n{}\nis not\n{}",
            exchange.typed,
            printed.join("\n"),
            exchange.printed.join("\n")
        );
    }
}

/// A terminal at which an ordinary user sits, as whom the tests may run already.
fn users_terminal(work: &Work) -> Terminal<'_> {
    let as_user = ["--reuid=1234", "--regid=1234", "--clear-groups", "--bounding-set=-all", "sh"];
    if is_root() { work.terminal("setpriv", &as_user) } else { work.terminal("sh", &[]) }
}

#[test]
fn the_tutorial_typed_from_its_first_line_is_what_a_person_sees() {
    if !have("busybox") {
        skip!("no busybox");
    }
    let work = Work::new();
    work.sh("chmod 777 .").expect(0, "");
    let blocks = console(TUTORIAL);
    assert!(blocks.len() > 10 && blocks[0].0 == "$ " && blocks[blocks.len() - 1].0 == "$ ");
    let mut user = users_terminal(&work);
    begin(&mut user);
    // What mktemp makes is this test's.
    user.send(&format!("TMPDIR={} && export TMPDIR\n", work.path().display()));
    user.expect(PROMPT);
    follow(&mut user, &blocks[0].1);
    // Its mounts are for this test only: others look at the host's.
    let mut root = is_root().then(|| work.terminal("unshare", &["--mount", "sh"]));
    if let Some(root) = &mut root {
        begin(root);
        root.send("cd tmp.*\n");
        root.expect(PROMPT);
    }
    for (prompt, block) in &blocks[1..] {
        match (*prompt, &mut root) {
            ("# ", None) => {}
            ("# ", Some(root)) => follow(root, block),
            _ => follow(&mut user, block),
        }
    }
    for mut terminal in [Some(user), root].into_iter().flatten() {
        terminal.send("exit\n");
        assert_eq!(terminal.end().1, 0);
    }
}

#[test]
fn the_tutorial_ends_with_the_table_of_root_and_proc() {
    let end: Vec<&str> = TUTORIAL.lines().rev().take(5).collect();
    assert_eq!(end, ["```", "$ exit", "/proc", "/", "$ mount | cut -d ' ' -f 3"]);
}

#[test]
fn the_way_out_is_what_a_person_sees() {
    needs_root!();
    let work = Work::new();
    work.sh(&format!("cp '{}' img.tar", busybox_image().display())).expect(0, "");
    let blocks = transcripts(OUT, "# ");
    assert!(blocks.len() == 4);
    work.sh(&format!("ln -s $(dirname {}) scripts", script("layer"))).expect(0, "");
    let mut terminal = work.terminal("unshare", &["--mount", "sh"]);
    begin(&mut terminal);
    blocks.iter().for_each(|block| follow(&mut terminal, block));
    terminal.send("exit\n");
    assert_eq!(terminal.end().1, 0);
}

#[test]
fn a_user_packs_and_removes_a_root_with_files_of_other_ids_as_the_page_says() {
    let work = Work::new();
    let line = |word: &str| {
        let found = OUT.lines().find(|line| line.starts_with("    isolate --user") && line.contains(word));
        found.expect("a line of the page").trim()
    };
    // root, to whom nothing is granted, gets a file that grants it.
    let prelude = if is_root() {
        "echo 0:100000:65536 >ranges && mount --bind ranges /etc/subuid && mount --bind ranges /etc/subgid"
    } else {
        "true"
    };
    let run =
        |script: &str| work.shell(if is_root() { "unshare --mount sh" } else { "sh" }, &format!("{prelude}; {script}"));
    let can = run("isolate --user --map-auto --map-root -- true");
    if can.status != 0 && can.stderr.contains("/etc/subuid") {
        skip!("no ranges in /etc/subuid");
    }
    can.expect(0, "");
    run(&format!("unpack --quiet '{}' ./root", busybox_image().display()))
        .expect(0, &format!("{}\n", work.join("root").display()));
    run("isolate --user --map-auto --map-root -- sh -c 'mkdir root/of-5 && touch root/of-5/file && chown -R 5:5 root/of-5'")
        .expect(0, "");
    let packed = run(&format!("{} && tar --numeric-owner -tvf packed.tar ./of-5/file", line("packed.tar")));
    assert!(packed.status == 0 && packed.stdout.contains(" 5/5 "), "{packed:?}");
    run(&format!("{}; ls -d root* packed.tar 2>/dev/null", line("rm -rf root"))).expect(2, "packed.tar\n");
}

/// The chains that a page types, each with what is typed into it and what is printed then.
fn chains(page: &'static str, prompt: &str) -> Vec<(String, String, Vec<&'static str>)> {
    let mut found = Vec::new();
    for block in transcripts(page, prompt) {
        let mut exchanges = block.into_iter();
        while let Some(exchange) = exchanges.next() {
            let words: Vec<&str> = exchange.typed.split(' ').collect();
            let explains = words.iter().any(|word| ["--explain", "--verbose"].contains(word));
            if explains || !["unpack", "isolate"].contains(&words[0]) {
                continue;
            }
            let mut input = String::new();
            let mut printed: Vec<&str> = exchange.printed;
            if exchange.typed.ends_with(" sh") {
                for inside in exchanges.by_ref().take_while(|inside| inside.typed != "exit") {
                    input.push_str(&format!("{}\n", inside.typed));
                    printed.extend(inside.printed);
                }
            }
            // Messages are not the command's output.
            printed.retain(|line| !["unpack: ", "pivot: "].iter().any(|tool| line.starts_with(tool)));
            // The form without a pipe is one script.
            found.push((exchange.typed.replacen(" | isolate", " -- isolate", 1), input, printed));
        }
    }
    found
}

#[test]
fn every_step_of_the_tutorial_is_explained_by_a_script_that_does_it() {
    let image = busybox_image();
    let as_user = "setpriv --reuid=1234 --regid=1234 --clear-groups --bounding-set=-all sh";
    let as_root = "unshare --mount --propagation private sh";
    let steps = [("# ", as_root, 5), ("$ ", if is_root() { as_user } else { "sh" }, 1)];
    for (prompt, shell, least) in steps.into_iter().filter(|(prompt, ..)| is_root() || *prompt == "$ ") {
        let chains = chains(TUTORIAL, prompt);
        assert!(chains.len() >= least, "{chains:?}");
        for (line, input, expected) in chains {
            let (tool, rest) = line.split_once(' ').expect("words");
            let explain = format!("{tool} --explain {rest} >script && sh script");
            for run in [&line, &explain] {
                let work = Work::new();
                work.sh(&format!("chmod 777 . && cp '{}' img.tar && chmod 644 img.tar", image.display())).expect(0, "");
                if tool != "unpack" {
                    assert_eq!(work.shell(shell, "unpack --quiet img.tar").status, 0);
                }
                let outcome = work.with_input(shell, run, input.as_bytes());
                let printed: Vec<&str> = outcome.stdout.lines().collect();
                assert_eq!(outcome.status, 0, "{run}\n{}", outcome.stderr);
                assert!(
                    like(&expected, &printed),
                    "{run}\n{}{}\nis not\n{expected:#?}",
                    outcome.stdout,
                    outcome.stderr
                );
            }
        }
    }
}

#[test]
fn the_scripts_in_the_tutorial_are_what_a_terminal_shows() {
    let parts: Vec<&str> = TUTORIAL.split("```sh\n").collect();
    assert_eq!(parts.len(), 4);
    for pair in parts.windows(2) {
        let command = pair[0].trim_end().trim_end_matches("`:").rsplit('`').next().expect("a command");
        let script: Vec<&str> = pair[1].split("\n```").next().unwrap_or_default().lines().collect();
        let work = Work::new();
        work.sh(&format!("cp '{}' img.tar", busybox_image().display())).expect(0, "");
        let (shown, status) = work.terminal("sh", &["-c", command]).end();
        let shown = shown.replace('\r', "");
        assert_eq!(status, 0, "{command}: {shown}");
        assert!(like(&script, &shown.lines().collect::<Vec<_>>()), "{command}\n{shown}\nis not\n{}", script.join("\n"));
    }
}

#[test]
fn every_comparison_is_what_the_programs_do() {
    needs_root!();
    if let Some(missing) = ["bwrap", "runc", "umoci", "systemd-nspawn"].into_iter().find(|program| !have(program)) {
        skip!("{missing} is not installed");
    }
    let work = Work::new();
    let prepare = format!("chmod 755 . && mkdir -m 777 mine && cp '{}' img.tar", busybox_image().display());
    work.sh(&prepare).expect(0, "");
    // Runtimes keep notes in /run; they are not to stay on this machine.
    std::fs::write(work.join("as-root"), "mount -t tmpfs run /run && exec sh \"$@\"\n").expect("write");
    let as_root = "unshare --mount --propagation private sh ./as-root";
    let as_user = "setpriv --reuid=1234 --regid=1234 --clear-groups --bounding-set=-all sh";
    for (prompt, before) in [("# ", as_root), ("$ ", as_user)] {
        for exchange in transcripts(COMPARED, prompt).iter().flatten() {
            let outcome = work.shell(before, exchange.typed);
            let printed: Vec<&str> = outcome.stdout.lines().collect();
            let expected = exchange.printed.join("\n");
            assert!(
                like(&exchange.printed, &printed),
                "{}\n{}{}\nis not\n{expected}",
                exchange.typed,
                outcome.stdout,
                outcome.stderr
            );
        }
    }
}

#[test]
fn a_pattern_matches_its_text_and_nothing_else() {
    let like =
        |pattern: &str, text: &str| like(&pattern.lines().collect::<Vec<_>>(), &text.lines().collect::<Vec<_>>());
    assert!(like("a\n…\nz", "a\nz") && like("a\n…\nz", "a\nb\nc\nz") && like("x … z", "x y z") && like("", ""));
    assert!(!like("a\n…\nz", "a\nb") && !like("a", "") && !like("", "a") && !like("x…z", "xy") && !like("a…a", "a"));
}
