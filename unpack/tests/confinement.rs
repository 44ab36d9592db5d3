//! The second wall: workers that were handed a broken path.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;

use unpack::confine::Confinement;

#[test]
fn a_confined_worker_changes_nothing_outside_and_everything_inside() {
    let dir = tempfile::tempdir().unwrap();
    let (inside, outside) = (dir.path().join("inside"), dir.path().join("outside"));
    for dir in [&inside, &outside] {
        fs::create_dir(dir).unwrap();
        fs::create_dir(dir.join("sub")).unwrap();
        fs::write(dir.join("file"), "x").unwrap();
    }
    let confinement = Confinement::new(&inside).unwrap();
    if !confinement.is_on() {
        eprintln!("skipped: no Landlock here");
        return;
    }
    let worker = || {
        confinement.enter().unwrap();
        for broken in [outside.clone(), inside.join("../outside")] {
            assert!(File::create(broken.join("new")).is_err(), "create");
            assert!(File::options().write(true).open(broken.join("file")).is_err(), "write");
            assert!(fs::create_dir(broken.join("dir")).is_err(), "mkdir");
            assert!(symlink("x", broken.join("link")).is_err(), "symlink");
            assert!(fs::hard_link(inside.join("file"), broken.join("hard")).is_err(), "link out");
            assert!(fs::hard_link(broken.join("file"), inside.join("in")).is_err(), "link in");
            assert!(fs::rename(inside.join("file"), broken.join("moved")).is_err(), "rename");
            assert!(fs::remove_file(broken.join("file")).is_err(), "unlink");
            assert!(fs::remove_dir(broken.join("sub")).is_err(), "rmdir");
        }
        symlink(&outside, inside.join("door")).unwrap();
        assert!(File::create(inside.join("door/new")).is_err(), "through a link");
        // Inside all of it works, from one directory to another too, and so it does for threads started from here.
        std::thread::spawn(move || {
            File::create(inside.join("new")).unwrap().write_all(b"y").unwrap();
            fs::hard_link(inside.join("file"), inside.join("sub/hard")).unwrap();
            fs::rename(inside.join("new"), inside.join("sub/new")).unwrap();
            fs::remove_file(inside.join("sub/new")).unwrap();
            assert!(File::create(inside.join("../outside/new")).is_err());
        })
        .join()
        .unwrap();
    };
    std::thread::scope(|scope| scope.spawn(worker).join().unwrap());
    let mut left: Vec<_> = fs::read_dir(dir.path().join("outside")).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["file", "sub"]);
    // The thread that started it is free.
    File::create(dir.path().join("outside/free")).unwrap();
}
