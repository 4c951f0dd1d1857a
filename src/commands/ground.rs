//! Before anything of the workspace is read: whether others may write what modtool goes by, whose
//! workspace it is, and whether a watched folder overlaps it.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tracing::warn;

use crate::cli::{GlobalOptions, LogFormat};
use crate::config::{Config, DATABASE};
use crate::ground::{
    self, Account, BecomeError, Mounts, Overlap, Untrusted, become_account, owner_of, user_name,
};
use crate::moderation::escape::escape_path;

use super::{no_reports, vectors};

/// Why modtool does not start here; all of them are the user's to decide.
#[derive(Debug, thiserror::Error)]
pub(super) enum GroundError {
    /// Others may write what modtool goes by.
    #[error(
        "{}\nwhoever can write there decides what modtool does; --workspace and --data-dir name other \
         folders, --allow-shared-workspace goes on all the same",
        listed(.0)
    )]
    Untrusted(Vec<Untrusted>),
    /// A watched folder overlaps the workspace.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Watched(Vec<WatchedOverlap>),
    /// Root could not become the user whose workspace it is.
    #[error(
        "the workspace belongs to {user}, and root can't run this as {user}; run it as {user} \
         (`sudo -u {user} …`), or as root with --allow-shared-workspace"
    )]
    Become {
        /// The user.
        user: String,
        /// What went wrong.
        #[source]
        source: BecomeError,
    },
    /// The user whose workspace it is can't start this program.
    #[error(
        "the workspace belongs to {user}, who can't run {}; install modtool where {user} can, or \
         run it as root with --allow-shared-workspace",
        escape_path(.program)
    )]
    NotStarted {
        /// The user.
        user: String,
        /// This program.
        program: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
}

/// How a watched folder lies to what is modtool's own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} can't be watched: it {} {}, and an upload would become a rule of modtool's; watch a folder \
     of its own, such as uploads/ (--allow-shared-workspace goes on all the same)",
    escape_path(.root),
    words(*.overlap),
    .own
)]
pub(super) struct WatchedOverlap {
    root: PathBuf,
    /// For people: what it is to modtool, and its path.
    own: String,
    overlap: Overlap,
}

fn words(overlap: Overlap) -> &'static str {
    match overlap {
        Overlap::Same => "is",
        Overlap::Holds => "holds",
        Overlap::LiesIn => "lies in",
    }
}

fn listed(places: &[Untrusted]) -> String {
    let line = |place: &Untrusted| format!("{place}: {}", place.remedy());
    places.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Root in another user's workspace becomes that user: what root made there would be beyond the
/// user's reach, and what lies there is not root's to trust. Starts this program anew as that user,
/// so this comes back only where there is nothing to do. To be called before there are threads.
///
/// # Errors
/// [`GroundError`] when root can't become the user.
pub(super) fn leave_root_to_the_owner(options: &GlobalOptions) -> Result<(), GroundError> {
    if !rustix::process::geteuid().is_root() || options.allow_shared_workspace {
        return Ok(());
    }
    let Some(owner) = owner_of(&options.workspace, DATABASE).filter(|owner| owner.uid != 0) else {
        return Ok(());
    };
    let user = user_name(owner.uid);
    let program = no_reports::ourselves();
    tell_user(options, &user);
    become_account(&owner).map_err(|source| GroundError::Become { user: user.clone(), source })?;
    let source = no_reports::start_anew(&environment_of(&owner));
    Err(GroundError::NotStarted { user, program, source })
}

fn tell_user(options: &GlobalOptions, user: &str) {
    let workspace = escape_path(&options.workspace);
    if options.log_format == LogFormat::Json {
        warn!(workspace, user, "the workspace is another user's; going on as that user");
        return;
    }
    // Whatever the log shows: it is why files come to belong to somebody else than who typed this.
    // Standard error may be closed.
    let _ = writeln!(
        io::stderr(),
        "modtool: the workspace {workspace} belongs to {user}: going on as {user} \
         (--allow-shared-workspace stays root)"
    );
}

/// What a login as that user would set, and without what names folders of root's.
fn environment_of(owner: &Account) -> Vec<(&'static str, Option<std::ffi::OsString>)> {
    let home = owner.home.clone().unwrap_or_else(|| PathBuf::from("/nonexistent"));
    let user = user_name(owner.uid);
    let mut environment = vec![
        ("HOME", Some(home.into_os_string())),
        ("USER", Some(user.clone().into())),
        ("LOGNAME", Some(user.into())),
    ];
    let roots = ["XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"];
    environment.extend(roots.map(|name| (name, None)));
    environment
}

/// Whether others may write what modtool goes by: the workspace, its settings, policies and
/// database, and the data folder with its models and libraries. `config` need not know the
/// settings. With `--allow-shared-workspace` it only warns.
///
/// # Errors
/// [`GroundError::Untrusted`] with all that others may write.
pub(super) fn check(config: &Config, typed: &Path) -> Result<(), GroundError> {
    close_own_folders(config);
    refuse(config, untrusted(config, typed))
}

/// [`check`] for the data folder alone.
///
/// # Errors
/// [`GroundError::Untrusted`].
pub(super) fn check_data_folder(config: &Config) -> Result<(), GroundError> {
    refuse(config, each_once(in_data_folder(config)))
}

/// Whether others may change a file or folder that the user named, such as a model's.
///
/// # Errors
/// [`GroundError::Untrusted`].
pub(super) fn check_named(config: &Config, folder: &Path) -> Result<(), GroundError> {
    refuse(config, each_once([ground::check_with_entries(folder, 2)]))
}

fn refuse(config: &Config, places: Vec<Untrusted>) -> Result<(), GroundError> {
    if places.is_empty() {
        return Ok(());
    }
    if config.allow_shared_workspace {
        for place in &places {
            warn!("{place}; whoever can write there decides what modtool does");
        }
        return Ok(());
    }
    Err(GroundError::Untrusted(places))
}

/// The folders that modtool makes for itself alone are that again, where they are ours: a file
/// system that an administrator mounts there often lets everybody write.
fn close_own_folders(config: &Config) {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let ours = rustix::process::geteuid().as_raw();
    for folder in [config.quarantine(), vectors::folder(config), config.locks()] {
        let Ok(meta) = std::fs::metadata(&folder) else { continue };
        if meta.is_dir() && meta.uid() == ours && meta.mode() & 0o022 != 0 {
            let closed = std::fs::Permissions::from_mode(0o700);
            // Where it can't be done, the check says so.
            if std::fs::set_permissions(&folder, closed).is_ok() {
                warn!(folder = %escape_path(&folder), "others could write here; closed it (mode 0700)");
            }
        }
    }
}

/// All that others may write of what modtool goes by, each place once. `typed` is the workspace as
/// it was named: the links on the way to it count.
fn untrusted(config: &Config, typed: &Path) -> Vec<Untrusted> {
    let workspace = &config.workspace;
    let files = own_files(workspace).into_iter();
    let checks = [ground::check(typed), ground::check(workspace)]
        .into_iter()
        .chain(files.map(|file| ground::check(&file)))
        .chain([
            ground::check_with_entries(&config.policies(), 1),
            ground::check_with_entries(&config.adapters(), 2),
            ground::check(&config.quarantine()),
            ground::check(&vectors::folder(config)),
            ground::check(&config.locks()),
        ])
        .chain(in_data_folder(config));
    each_once(checks)
}

fn in_data_folder(config: &Config) -> [Result<(), Untrusted>; 5] {
    let data = &config.data_dir;
    if !data.exists() && ground::check(data).is_err() {
        // Below a folder in which anybody may make one (/tmp): made now, it is ours. Whoever was
        // faster made one that the check refuses.
        let mut private = std::fs::DirBuilder::new();
        let _ = std::os::unix::fs::DirBuilderExt::mode(&mut private, 0o700).create(data);
    }
    [
        ground::check(data),
        ground::check_with_entries(&data.join("models"), 2),
        ground::check_with_entries(&data.join("runtime"), 1),
        ground::check_with_entries(&data.join("prompts"), 1),
        ground::check_with_entries(&data.join("inspected"), 1),
    ]
}

fn each_once(checks: impl IntoIterator<Item = Result<(), Untrusted>>) -> Vec<Untrusted> {
    let mut places = Vec::new();
    for place in checks.into_iter().filter_map(Result::err) {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

/// The workspace's files that decide something: settings, and the database with its journals.
fn own_files(workspace: &Path) -> Vec<PathBuf> {
    let names = ["modtool.yaml", DATABASE, "modtool.db-wal", "modtool.db-shm"];
    names.map(|name| workspace.join(name)).to_vec()
}

/// Refuses watched folders that are or hold the workspace or the data folder, or overlap what
/// modtool keeps in one of them. A folder in the workspace beside those is what most people
/// watch. With `--allow-shared-workspace` it only warns.
///
/// # Errors
/// [`GroundError::Watched`].
pub(super) fn check_roots(config: &Config, roots: &[PathBuf]) -> Result<(), GroundError> {
    let found = overlaps(config, roots);
    if found.is_empty() {
        return Ok(());
    }
    if config.allow_shared_workspace {
        for one in &found {
            let (root, own) = (escape_path(&one.root), &one.own);
            let how = words(one.overlap);
            warn!(
                "the watched folder {root} {how} {own}: an upload can become a rule of modtool's"
            );
        }
        return Ok(());
    }
    Err(GroundError::Watched(found))
}

/// The first overlap of each watched folder.
fn overlaps(config: &Config, roots: &[PathBuf]) -> Vec<WatchedOverlap> {
    let mounts = Mounts::now();
    let overlap_of = |root: &PathBuf| {
        let whole = [&config.workspace, &config.data_dir];
        let holds = whole.into_iter().filter_map(|own| {
            let overlap = mounts.overlap(root, own)?;
            (overlap != Overlap::LiesIn).then(|| (own.clone(), overlap))
        });
        let parts = own_places(config).into_iter();
        let parts = parts.filter_map(|own| Some((own.clone(), mounts.overlap(root, &own)?)));
        let (own, overlap) = holds.chain(parts).next()?;
        let what = match &own {
            own if *own == config.workspace => "the workspace ",
            own if *own == config.data_dir => "the data folder ",
            _ => "",
        };
        let own = format!("{what}{}", escape_path(&own));
        Some(WatchedOverlap { root: root.clone(), own, overlap })
    };
    roots.iter().filter_map(overlap_of).collect()
}

/// What is modtool's own in workspace and data folder, whether it is there or not.
fn own_places(config: &Config) -> Vec<PathBuf> {
    let mut places = own_files(&config.workspace);
    places.extend([
        config.policies(),
        config.adapters(),
        config.quarantine(),
        vectors::folder(config),
        config.locks(),
    ]);
    let in_data = ["models", "runtime", "prompts", "inspected", "watchers"];
    places.extend(in_data.map(|name| config.data_dir.join(name)));
    places
}

/// What [`check`] refuses, for `doctor`: each place, and what to do about it.
pub(super) fn untrusted_places(config: &Config, typed: &Path) -> Vec<(String, String)> {
    let places = untrusted(config, typed);
    places.iter().map(|place| (place.to_string(), place.remedy())).collect()
}

/// What [`check_roots`] refuses, for `doctor`: each folder, and what to do about it.
pub(super) fn watched_overlaps(config: &Config, roots: &[PathBuf]) -> Vec<(String, String)> {
    let sentence = |one: WatchedOverlap| {
        let (root, own) = (escape_path(&one.root), one.own);
        let sentence = format!("the watched folder {root} {} {own}", words(one.overlap));
        (sentence, "watch a folder of its own, such as uploads/".to_owned())
    };
    overlaps(config, roots).into_iter().map(sentence).collect()
}

/// What belongs to another user than the workspace: a command that root ran made it.
pub(super) struct ForeignOwned {
    /// Files and folders.
    pub(super) paths: Vec<PathBuf>,
    /// The command that gives them back.
    pub(super) remedy: String,
}

/// What in the workspace its user can't write; `None` where all is well.
pub(super) fn foreign_owned(config: &Config) -> Option<ForeignOwned> {
    let owner = owner_of(&config.workspace, DATABASE)?;
    let mut own = own_files(&config.workspace);
    // Settings, like policies, may be another user's whom modtool's user obeys.
    own.retain(|file| !file.ends_with("modtool.yaml"));
    own.extend([config.quarantine(), vectors::folder(config), config.adapters(), config.locks()]);
    let paths = ground::foreign_owned(&own, owner.uid);
    if paths.is_empty() {
        return None;
    }
    let names: Vec<_> = paths.iter().map(|path| escape_path(path)).collect();
    let remedy = format!("chown -R {}: {}", user_name(owner.uid), names.join(" "));
    Some(ForeignOwned { paths, remedy })
}
