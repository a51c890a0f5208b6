use std::{io::Read as _, time::Duration};

use super::*;

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn count(directory: &Path) -> usize {
    fs::read_dir(directory).unwrap().count()
}

#[test]
fn replaces_a_file_and_leaves_no_temporary_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.json");
    let writer = FileWriter::new();
    writer.write(&path, b"one").unwrap();
    writer.write(&path, b"two").unwrap();
    // Discarded.
    writer.create(&path).unwrap().write_all(b"three").unwrap();
    assert_eq!((read(&path).as_str(), count(directory.path())), ("two", 1));
}

#[test]
fn a_failed_write_leaves_no_temporary_file() {
    let directory = tempfile::tempdir().unwrap();
    let taken = directory.path().join("taken");
    fs::create_dir(&taken).unwrap();
    for path in [directory.path().join("no/such/place"), taken, "/".into(), "".into()] {
        for writer in [FileWriter::new(), FileWriter::new().private(), FileWriter::new().replacing_links()] {
            assert!(writer.write(&path, b"x").is_err(), "{}", path.display());
            assert!(writer.check(&path).is_err() || !writer.follows_links, "{}", path.display());
        }
    }
    assert_eq!(count(directory.path()), 1);
}

#[test]
fn checks_that_a_file_is_writable_without_changing_anything() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.json");
    let writer = FileWriter::new();
    writer.check(&path).unwrap();
    assert_eq!(count(directory.path()), 0);
    writer.write(&path, b"one").unwrap();
    writer.check(&path).unwrap();
    assert_eq!((read(&path).as_str(), count(directory.path())), ("one", 1));
}

#[test]
fn reads_at_most_64_mib() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    fs::write(&path, "süß").unwrap();
    assert_eq!(read_text(&path).unwrap(), "süß");
    fs::write(&path, b"\xff").unwrap();
    assert_eq!(read_text(&path).unwrap_err().to_string(), "it is not valid UTF-8");
    // A sparse file: it takes no space.
    File::create(&path).unwrap().set_len(1 << 40).unwrap();
    for path in [path.as_path(), Path::new("/dev/zero")] {
        if path.exists() {
            assert_eq!(super::read(path).unwrap_err().to_string(), "it is larger than 64 MiB");
        }
    }
    assert_eq!(super::read(&directory.path().join("b")).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_second_holder_waits_or_learns_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("receipt.json");
    let held = FileLock::acquire(&path, Duration::ZERO).await.unwrap();
    let Err(LockError::Held { holder: Some(holder) }) = FileLock::acquire(&path, Duration::ZERO).await else {
        panic!("it is not locked");
    };
    assert_eq!(holder.pid, std::process::id());
    assert!(holder.to_string().starts_with(&format!("process {} on ", holder.pid)), "{holder}");

    let started = tokio::time::Instant::now();
    let refused = FileLock::acquire(&path, Duration::from_secs(10)).await;
    assert!(matches!(refused, Err(LockError::Held { .. })) && started.elapsed().as_secs() == 10);
    let release = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        drop(held);
    };
    let (second, ()) = tokio::join!(FileLock::acquire(&path, Duration::from_secs(10)), release);
    drop(second.unwrap());
    assert_eq!(count(directory.path()), 0, "the lock file is removed");
}

#[cfg(unix)]
mod unix {
    use std::{
        os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
        process::{Command, Stdio},
    };

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn keeps_the_mode_and_the_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        FileWriter::new().write(&path, b"one").unwrap();
        let by_default = mode(&path);
        fs::write(directory.path().join("b"), "").unwrap();
        assert_eq!(by_default, mode(&directory.path().join("b")), "that of the umask");
        // Only root may give files away.
        let owner =
            if rustix::process::geteuid().is_root() { 12345 } else { fs::metadata(&path).unwrap().uid() };
        std::os::unix::fs::chown(&path, Some(owner), None).unwrap();
        for given in [0o600, 0o640, 0o664, 0o755, 0o444] {
            chmod(&path, given);
            FileWriter::new().write(&path, b"two").unwrap();
            let metadata = fs::metadata(&path).unwrap();
            assert_eq!((metadata.mode() & 0o7777, metadata.uid()), (given, owner));
        }
        FileWriter::new().private().write(&path, b"three").unwrap();
        assert_eq!(mode(&path), 0o600);
        let new = directory.path().join("new");
        FileWriter::new().private().write(&new, b"x").unwrap();
        assert_eq!(mode(&new), 0o600);
    }

    #[test]
    fn a_temporary_file_is_never_more_readable_than_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::write(&path, "closed").unwrap();
        chmod(&path, 0o600);
        let unfinished = FileWriter::new().create(&path).unwrap();
        let entries = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
        let modes: Vec<u32> = entries.map(|entry| mode(&entry)).collect();
        assert_eq!(modes, [0o600, 0o600]);
        drop(unfinished);
    }

    #[test]
    fn writes_the_target_of_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("real")).unwrap();
        fs::write(at("real/a"), "old").unwrap();
        for (link, to) in [("a", "real/a"), ("b", "a"), ("c", "real/new"), ("d", "c")] {
            symlink(to, at(link)).unwrap();
        }
        for (link, target) in [("a", "real/a"), ("b", "real/a"), ("c", "real/new"), ("d", "real/new")] {
            FileWriter::new().check(&at(link)).unwrap();
            FileWriter::new().write(&at(link), link.as_bytes()).unwrap();
            assert!(fs::symlink_metadata(at(link)).unwrap().is_symlink(), "{link} remains");
            assert_eq!(read(&at(target)), link);
        }
        assert_eq!(count(&at("real")), 2);
        symlink("loop", at("loop")).unwrap();
        assert!(FileWriter::new().write(&at("loop"), b"x").is_err());
        // Within a directory that may come from anywhere, the link is what is replaced.
        FileWriter::new().replacing_links().write(&at("a"), b"x").unwrap();
        assert!(fs::symlink_metadata(at("a")).unwrap().is_file());
        assert_eq!(read(&at("real/a")), "b");
    }

    #[test]
    fn writes_into_a_fifo() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        FileWriter::new().check(&path).unwrap();
        let error = FileWriter::new().write(&path, b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotConnected, "it does not wait for a reader");
        let mut reader = Command::new("cat").arg(&path).stdout(Stdio::piped()).spawn().unwrap();
        // More than a pipe holds.
        let content = "0123456789".repeat(20_000);
        let text = content.clone();
        let writer = std::thread::spawn({
            let path = path.clone();
            move || {
                while FileWriter::new().write(&path, text.as_bytes()).is_err() {
                    std::thread::yield_now();
                }
            }
        });
        let mut seen = String::new();
        reader.stdout.take().unwrap().read_to_string(&mut seen).unwrap();
        assert!(reader.wait().unwrap().success());
        writer.join().unwrap();
        assert!(seen == content && count(directory.path()) == 1);
        assert!(!is_regular(&path).unwrap());
    }

    #[test]
    fn writes_through_devices_and_descriptors() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        FileWriter::new().check(Path::new("/dev/null")).unwrap();
        FileWriter::new().write(Path::new("/dev/null"), b"x").unwrap();
        symlink("/dev/null", at("null")).unwrap();
        FileWriter::new().write(&at("null"), b"x").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file() && count(directory.path()) == 1);
        if Path::new("/dev/full").exists() {
            let error = FileWriter::new().write(Path::new("/dev/full"), b"x").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        }

        // A descriptor of a regular file: the file keeps its content and its identity.
        fs::write(at("log"), "before\n").unwrap();
        let open = File::options().append(true).open(at("log")).unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&open);
        for path in [format!("/dev/fd/{number}"), format!("/proc/self/fd/{number}")] {
            FileWriter::new().check(path.as_ref()).unwrap();
            FileWriter::new().write(path.as_ref(), b"written\n").unwrap();
            assert!(!is_regular(path.as_ref()).unwrap());
        }
        assert_eq!(read(&at("log")), "before\nwritten\nwritten\n");
        assert_eq!(open.metadata().unwrap().ino(), fs::metadata(at("log")).unwrap().ino());
        assert!(FileWriter::new().write(Path::new("/dev/fd/987654"), b"x").is_err());
    }

    #[test]
    fn writes_in_place_what_cannot_be_replaced() {
        if rustix::process::geteuid().is_root() {
            // Root may write every directory: only the copy itself can be tested.
            let directory = tempfile::tempdir().unwrap();
            let (from, to) = (directory.path().join("from"), directory.path().join("to"));
            fs::write(&from, "new").unwrap();
            fs::write(&to, "older content").unwrap();
            write_in_place(&mut File::open(&from).unwrap(), &to).unwrap();
            assert_eq!(read(&to), "new");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::write(&path, "older content").unwrap();
        chmod(directory.path(), 0o555);
        FileWriter::new().check(&path).unwrap();
        FileWriter::new().write(&path, b"new").unwrap();
        assert_eq!(read(&path), "new");
        assert!(FileWriter::new().check(&directory.path().join("b")).is_err());
        chmod(directory.path(), 0o755);
    }

    /// A mount, until it is dropped.
    struct Mounted<'a>(&'a Path);

    impl<'a> Mounted<'a> {
        /// `None` if mounting is not permitted.
        fn new(arguments: &[&str], at: &'a Path) -> Option<Self> {
            let mut mount = Command::new("mount");
            let status = mount.args(arguments).arg(at).stderr(Stdio::null()).status();
            status.is_ok_and(|status| status.success()).then_some(Mounted(at))
        }
    }

    impl Drop for Mounted<'_> {
        fn drop(&mut self) {
            assert!(Command::new("umount").arg(self.0).status().unwrap().success());
        }
    }

    /// As volumes of containers are: a file mounted over a file, also in a directory that is mounted read-only.
    #[tokio::test]
    #[allow(clippy::print_stdout, reason = "a test that is skipped says so")]
    async fn writes_files_that_are_mounted() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("volume")).unwrap();
        fs::write(at("volume/a"), "the place of the mount").unwrap();
        fs::write(at("real"), "older content").unwrap();
        chmod(&at("real"), 0o640);
        let (volume, file, real) = (at("volume"), at("volume/a"), at("real"));
        let Some(read_only) = Mounted::new(&["--bind", volume.to_str().unwrap()], &volume) else {
            println!("SKIPPED: mounting is not permitted here");
            return;
        };
        for is_read_only in [false, true] {
            if is_read_only {
                let remounted = Command::new("mount").args(["-o", "remount,ro,bind"]).arg(&volume).status();
                assert!(remounted.unwrap().success());
            }
            let mounted = Mounted::new(&["--bind", real.to_str().unwrap()], &file).unwrap();
            let inode = fs::metadata(&file).unwrap().ino();
            for content in ["new", "and longer", "x"] {
                FileWriter::new().check(&file).unwrap();
                FileWriter::new().write(&file, content.as_bytes()).unwrap();
                assert_eq!((read(&file).as_str(), read(&real).as_str()), (content, content));
            }
            assert_eq!((fs::metadata(&file).unwrap().ino(), mode(&real)), (inode, 0o640));
            assert_eq!(count(&volume), 1, "no temporary file");
            let held = FileLock::acquire(&file, Duration::ZERO).await.unwrap();
            let second = FileLock::acquire(&file, Duration::ZERO).await;
            assert!(matches!(second, Err(LockError::Held { .. })), "{second:?}");
            drop(held);
            assert_eq!(FileWriter::new().check(&volume.join("new")).is_err(), is_read_only);
            drop(mounted);
        }
        drop(read_only);
    }

    #[tokio::test]
    async fn a_lock_file_that_was_left_behind_does_not_block() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("r.json.lock"), "{\"host\":\"gone\",\"pid\":1,\"since\":\"2026-01-01T00:00:00Z\"}\n")
            .unwrap();
        // What a killed run may leave, and what is not its own.
        for name in [".r.json.0123456789abcdef.tmp", ".r.json.0123.tmp", ".other.0123456789abcdef.tmp"] {
            fs::write(at(name), "x").unwrap();
        }
        symlink("r.json", at("link")).unwrap();
        let held = FileLock::acquire(&at("link"), Duration::ZERO).await.unwrap();
        assert!(read(&at("r.json.lock")).contains(&format!("\"pid\":{}", std::process::id())));
        assert!(!at(".r.json.0123456789abcdef.tmp").exists());
        let second = FileLock::acquire(&at("r.json"), Duration::ZERO).await;
        assert!(matches!(second, Err(LockError::Held { .. })), "a link leads to the same lock");
        drop(held);
        assert_eq!(count(directory.path()), 3);
        let null = FileLock::acquire(Path::new("/dev/null"), Duration::ZERO).await;
        assert!(matches!(null, Err(LockError::NotRegular)));
        // The lock file itself is never followed.
        symlink("victim", at("r.json.lock")).unwrap();
        assert!(FileLock::acquire(&at("r.json"), Duration::ZERO).await.is_err() && !at("victim").exists());
    }
}
