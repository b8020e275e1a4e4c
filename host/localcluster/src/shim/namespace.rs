//! A filesystem view of a container's own: the host's top-level folders, its mounts at their absolute paths, its own /tmp and
//! /dev. Nothing of it is visible outside, and nothing on the host's root is created for it.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use super::{Isolation, ShimSpec};

/// Folders with content of their own in a container.
const SPECIAL: [&str; 4] = ["proc", "sys", "dev", "tmp"];

/// The devices every container has.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

const NONE: Option<&str> = None;

/// Puts the caller's *children* into a new PID namespace (and the caller into a user namespace, if that is the way).
pub fn unshare_processes(isolation: Isolation) -> io::Result<()> {
    match isolation {
        Isolation::Rewrite => Ok(()),
        Isolation::Namespaces => Ok(unshare(CloneFlags::CLONE_NEWPID)?),
        Isolation::UserNamespace => {
            let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
            unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID)?;
            fs::write("/proc/self/setgroups", "deny")?;
            fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
            fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
        }
    }
}

/// Moves the caller, the first process of its PID namespace, onto the container's filesystem.
pub fn enter(spec: &ShimSpec, folder: &Path) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC)?;
    nix::unistd::sethostname(&spec.hostname)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    let root = folder.join("root");
    fs::create_dir_all(&root)?;
    mount(
        Some("tmpfs"),
        &root,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=755"),
    )?;
    let wanted = wanted_paths(spec);
    host_folders(&root, &wanted)?;
    own_folders(&root, folder)?;
    for volume_mount in &spec.container.mounts {
        let source = spec
            .volumes
            .join(&volume_mount.volume)
            .join(&volume_mount.sub_path);
        bind(
            &source,
            &inside(&root, Path::new(&volume_mount.path)),
            volume_mount.read_only,
        )?;
    }
    let message = Path::new(&spec.container.termination_message_path);
    if message.is_absolute() {
        bind(
            &folder.join("termination-log"),
            &inside(&root, message),
            false,
        )?;
    }
    if !spec.container.working_dir.is_empty() {
        fs::create_dir_all(inside(&root, Path::new(&spec.container.working_dir)))?;
    }
    pivot(&root)
}

fn pivot(root: &Path) -> io::Result<()> {
    let old = root.join(".old");
    fs::create_dir(&old)?;
    nix::unistd::pivot_root(root, &old)?;
    nix::unistd::chdir("/")?;
    umount2("/.old", MntFlags::MNT_DETACH)?;
    fs::remove_dir("/.old")
}

/// The absolute paths that must exist inside.
fn wanted_paths(spec: &ShimSpec) -> Vec<PathBuf> {
    let container = &spec.container;
    let mounts = container.mounts.iter().map(|m| m.path.as_str());
    mounts
        .chain([
            container.working_dir.as_str(),
            container.termination_message_path.as_str(),
        ])
        .map(PathBuf::from)
        .collect()
}

/// Shows the host's top-level folders. One in which a path has to be made that the host lacks gets a layer in memory over it.
fn host_folders(root: &Path, wanted: &[PathBuf]) -> io::Result<()> {
    for entry in fs::read_dir("/")? {
        let entry = entry?;
        let (name, host) = (entry.file_name(), entry.path());
        let target = root.join(&name);
        let kind = entry.file_type()?;
        if SPECIAL.iter().any(|special| name == *special) {
            continue;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&host)?, &target)?;
        } else if kind.is_dir() {
            fs::create_dir(&target)?;
            let lacking = wanted
                .iter()
                .any(|path| path.starts_with(&host) && !path.exists());
            if !(lacking && layer(root, &host, &target)?) {
                mount(
                    Some(&host),
                    &target,
                    NONE,
                    MsFlags::MS_BIND | MsFlags::MS_REC,
                    NONE,
                )?;
            }
        } else if kind.is_file() {
            fs::write(&target, "")?;
            mount(Some(&host), &target, NONE, MsFlags::MS_BIND, NONE)?;
        }
    }
    Ok(())
}

/// Mounts `host` with a writable layer in memory at `target`; false when this machine has no overlay filesystem.
fn layer(root: &Path, host: &Path, target: &Path) -> io::Result<bool> {
    let layers = root
        .join(".layers")
        .join(host.file_name().unwrap_or_default());
    fs::create_dir_all(layers.join("upper"))?;
    fs::create_dir_all(layers.join("work"))?;
    // Relative paths: a comma or colon in the state folder's path would be read as part of the options.
    std::env::set_current_dir(&layers)?;
    let options = format!("lowerdir={},upperdir=upper,workdir=work", host.display());
    let mounted = mount(
        Some("overlay"),
        target,
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_str()),
    )
    .is_ok();
    std::env::set_current_dir("/")?;
    Ok(mounted)
}

/// The container's own /proc, /sys, /dev and /tmp.
fn own_folders(root: &Path, folder: &Path) -> io::Result<()> {
    for name in SPECIAL {
        fs::create_dir(root.join(name))?;
    }
    let hardened = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
    let recursive = MsFlags::MS_BIND | MsFlags::MS_REC;
    if mount(
        Some("proc"),
        &root.join("proc"),
        Some("proc"),
        hardened,
        NONE,
    )
    .is_err()
    {
        mount(Some("/proc"), &root.join("proc"), NONE, recursive, NONE)?;
    }
    mount(Some("/sys"), &root.join("sys"), NONE, recursive, NONE)?;
    let temporary = folder.join("tmp");
    fs::create_dir_all(&temporary)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o1777))?;
    mount(
        Some(&temporary),
        &root.join("tmp"),
        NONE,
        MsFlags::MS_BIND,
        NONE,
    )?;
    let devices = root.join("dev");
    mount(
        Some("tmpfs"),
        &devices,
        Some("tmpfs"),
        MsFlags::MS_NOSUID,
        Some("mode=755"),
    )?;
    for name in DEVICES {
        let host = Path::new("/dev").join(name);
        if host.exists() {
            fs::write(devices.join(name), "")?;
            mount(
                Some(&host),
                &devices.join(name),
                NONE,
                MsFlags::MS_BIND,
                NONE,
            )?;
        }
    }
    for name in ["shm", "pts"] {
        fs::create_dir(devices.join(name))?;
    }
    mount(
        Some("shm"),
        &devices.join("shm"),
        Some("tmpfs"),
        hardened,
        Some("mode=1777"),
    )?;
    if Path::new("/dev/pts").exists() {
        mount(
            Some("/dev/pts"),
            &devices.join("pts"),
            NONE,
            recursive,
            NONE,
        )?;
    }
    let links = [
        ("/proc/self/fd", "fd"),
        ("fd/0", "stdin"),
        ("fd/1", "stdout"),
        ("fd/2", "stderr"),
        ("pts/ptmx", "ptmx"),
    ];
    links
        .into_iter()
        .try_for_each(|(to, name)| symlink(to, devices.join(name)))
}

/// `path` under `root`, without `..`.
fn inside(root: &Path, path: &Path) -> PathBuf {
    let normal = path
        .components()
        .filter(|c| matches!(c, Component::Normal(_)));
    normal.fold(root.to_owned(), |whole, part| whole.join(part))
}

/// Mounts a file or folder at `target`, making what is missing on the way.
fn bind(source: &Path, target: &Path, read_only: bool) -> io::Result<()> {
    if source.is_dir() {
        fs::create_dir_all(target)?;
    } else if !target.exists() {
        fs::create_dir_all(target.parent().unwrap_or(target))?;
        fs::write(target, "")?;
    }
    mount(
        Some(source),
        target,
        NONE,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        NONE,
    )?;
    if read_only {
        mount(
            NONE,
            target,
            NONE,
            MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | kept_flags(target),
            NONE,
        )?;
    }
    Ok(())
}

/// The flags a remount may not drop inside a user namespace.
fn kept_flags(target: &Path) -> MsFlags {
    use nix::sys::statvfs::{FsFlags, statvfs};
    let Ok(found) = statvfs(target) else {
        return MsFlags::empty();
    };
    let pairs = [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
    ];
    pairs
        .into_iter()
        .filter(|(have, _)| found.flags().contains(*have))
        .fold(MsFlags::empty(), |all, (_, flag)| all | flag)
}

/// Rewrites mount paths to where the volumes really are, for hosts without namespaces.
pub fn rewrite(spec: &mut ShimSpec, folder: &Path) -> io::Result<()> {
    let shown = folder.join("root");
    let mut pairs = Vec::new();
    // The host has a /tmp of its own, and other paths have it in them.
    let to_rewrite = |path: &str| path.trim_end_matches('/') != "/tmp";
    let mounts = spec.container.mounts.iter();
    for volume_mount in mounts.filter(|mount| to_rewrite(&mount.path)) {
        let link = inside(&shown, Path::new(&volume_mount.path));
        fs::create_dir_all(link.parent().unwrap_or(&shown))?;
        let source = spec
            .volumes
            .join(&volume_mount.volume)
            .join(&volume_mount.sub_path);
        // A part of a volume that is mounted whole already is in its place.
        if !link.exists() {
            symlink(source, &link)?;
        }
        pairs.push((
            volume_mount.path.trim_end_matches('/').to_owned(),
            link.display().to_string(),
        ));
    }
    // The longest path first, or a mount inside another one would be rewritten as a part of the outer one.
    pairs.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
    let replace = |text: &mut String| {
        if let Some((path, link)) = pairs.iter().find(|(path, _)| text.contains(path.as_str())) {
            *text = text.replace(path.as_str(), link);
        }
    };
    spec.container.argv.iter_mut().for_each(replace);
    spec.container
        .env
        .iter_mut()
        .for_each(|(_, value)| replace(value));
    replace(&mut spec.container.working_dir);
    if spec.container.working_dir.is_empty() || !Path::new(&spec.container.working_dir).is_dir() {
        spec.container.working_dir = shown.display().to_string();
        fs::create_dir_all(&shown)?;
    }
    Ok(())
}

/// A C string, or the error a program would get for a NUL inside.
pub fn c_string(text: &str) -> io::Result<CString> {
    CString::new(text).map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "a NUL byte in an argument or variable",
        )
    })
}
