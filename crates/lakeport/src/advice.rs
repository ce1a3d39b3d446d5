//! What to do about each kind of failure: one table, read by exit codes, retries, help lines and `lakeport explain`.

use crate::error::Kind;

/// The stable code, exit code and advice of one [`Kind`].
#[derive(Debug, Clone, Copy)]
pub struct Advice {
    /// The kind this row is about.
    pub kind: Kind,
    /// A stable code such as `E206`; documented, never reused.
    pub code: &'static str,
    /// The exit code of the process.
    pub exit_code: u8,
    /// Whether the same command may succeed when simply run again.
    pub retry: bool,
    /// A short title for lists.
    pub title: &'static str,
    /// One line that says what to do now.
    pub help: &'static str,
    /// The long text of `lakeport explain CODE`.
    pub explain: &'static str,
}

/// Finds the advice for a kind.
#[must_use]
pub fn of(kind: Kind) -> &'static Advice {
    ALL.iter().find(|a| a.kind == kind).unwrap_or(&ALL[0])
}

/// Finds the advice behind a code such as `E206`, in any case.
#[must_use]
pub fn by_code(code: &str) -> Option<&'static Advice> {
    ALL.iter().find(|a| a.code.eq_ignore_ascii_case(code))
}

const fn row(
    kind: Kind,
    code: &'static str,
    exit_code: u8,
    retry: bool,
    title: &'static str,
    help: &'static str,
    explain: &'static str,
) -> Advice {
    Advice { kind, code, exit_code, retry, title, help, explain }
}

/// Every kind with its advice, ordered by exit code; the first row is the fallback.
#[rustfmt::skip]
pub static ALL: &[Advice] = &[
    row(Kind::Unexpected, "E100", 1, false, "an unexpected failure",
        "run again with -v and report what is printed; the target is as it was",
        "Lakeport met a state it does not know. Nothing was published that the report does not name. The log at -vv \
         and .lakeport/runs/<id>/run.json say how far the run came."),
    row(Kind::WriteFailed, "E101", 1, false, "a local file cannot be written",
        "check that the directory exists and may be written",
        "The file is written under a temporary name beside the target and renamed when it is whole, so an existing \
         target is untouched. Lakeport needs the right to create files in the target's directory."),
    row(Kind::OutOfSpace, "E102", 1, false, "no space left",
        "free space, or point the target or TMPDIR at a larger disk; the existing target is untouched",
        "The disk, a quota, or hyperd's memory limit was reached. Converting needs room for the whole new file beside \
         the old one, because the old one stays until the new one is verified. Sorts and joins spill to TMPDIR."),
    row(Kind::Usage, "E120", 2, false, "a command line that cannot be",
        "see `lakeport help` for the options of this command",
        "Two options contradict each other, one is missing, or a value cannot be read."),
    row(Kind::ConfigInvalid, "E121", 2, false, "the configuration cannot be understood",
        "correct the named key; `lakeport config show --origin` says which file a value comes from",
        "lakeport.toml, lakeport.local.toml or the user file has a syntax error, a value of the wrong type, or a \
         literal secret. Secrets are given as { env = \"NAME\" }, { file = \"…\" } or { command = [\"…\"] }."),
    row(Kind::UnknownKey, "E122", 2, false, "an unknown key in the configuration",
        "correct or remove the key; `lakeport config schema` lists all keys",
        "An unknown key is an error because a misspelt option that is silently ignored publishes the wrong thing."),
    row(Kind::SecretMissing, "E123", 2, false, "a secret is missing",
        "set the variable, create the file, or correct the command named above",
        "Secrets are looked up before any work starts, so that a run does not convert for an hour and then cannot \
         sign in. Lakeport names where it looked, never what it found."),
    row(Kind::UnknownName, "E124", 2, false, "an unknown environment or job",
        "`lakeport config show` lists the environments and jobs",
        "A reference ENV:path names an environment [env.ENV]; a job name names [job.NAME]."),
    row(Kind::HyperdMissing, "E125", 2, false, "hyperd is not available",
        "run `lakeport check --install-hyperd`, or set HYPERD_PATH",
        "hyperd is the engine that writes .hyper files. Lakeport looks at HYPERD_PATH, at an installed Python package \
         tableauhyperapi, then at its own cache. There is no build for Linux on ARM."),
    row(Kind::SqlInvalid, "E126", 2, false, "the SQL is not valid",
        "the table of --from is called `src` inside --sql",
        "The SQL does not parse, or names a table or column that does not exist. Identifiers are case-sensitive when \
         quoted and lower-cased when not."),
    row(Kind::Unsupported, "E127", 2, false, "not supported",
        "`lakeport formats` lists what each format and target can do",
        "The combination asked for does not exist in this version of Lakeport."),
    row(Kind::TargetMissing, "E128", 2, false, "the project, site or workspace does not exist",
        "correct `project` or `site`, or set create_project = true",
        "Projects are resolved level by level from the root, by exact name; a name in another branch is not taken \
         instead."),
    row(Kind::TargetExists, "E129", 2, false, "the name is taken",
        "use --mode full to replace what is there",
        "The server has a data source of this name in this project and the run was told not to replace it."),
    row(Kind::SourceMissing, "E130", 3, false, "the source does not exist",
        "check the path, and the environment's root",
        "No file, directory or object answers to this reference."),
    row(Kind::SourceUnreadable, "E131", 3, false, "the source cannot be read",
        "the named file is damaged or not of the format its name says",
        "A file is truncated, corrupt, or has rows that do not fit its header. Lakeport stops rather than leave out \
         rows. Nothing was published."),
    row(Kind::SourceEmpty, "E132", 3, false, "no data files",
        "point at a directory that holds .parquet, .csv, .json or .ndjson files (also .gz or .zst)",
        "The directory exists and holds no file Lakeport can read, so not even the columns are known. A table with \
         columns and no rows is fine and publishes an empty table."),
    row(Kind::SignIn, "E140", 4, false, "sign-in failed",
        "check the token's name and secret, its expiry, and the site's content URL",
        "The server did not accept the credentials (401001), or the session ended twice in one run (401002), which \
         happens when another process signs in with the same personal access token."),
    row(Kind::Forbidden, "E141", 4, false, "not permitted",
        "ask the project's owner for the right to publish (Write) in this project",
        "The server knows the user and refuses the action."),
    row(Kind::Unreachable, "E150", 5, true, "the server cannot be reached",
        "check the URL, the network, and HTTPS_PROXY / NO_PROXY; then run again",
        "The name does not resolve, nothing listens there, TLS failed, or the connection was reset more often than \
         the retry budget allows."),
    row(Kind::TimedOut, "E151", 5, true, "the server did not answer in time",
        "run again; raise `timeout` in the environment if the server is slow",
        "Every call has a connect, a read and a total time-out."),
    row(Kind::Throttled, "E152", 5, true, "the server asks to slow down",
        "run again later, or with fewer jobs side by side",
        "The server answered 429 until the retry budget was used up."),
    row(Kind::ServerFailed, "E153", 5, true, "the server failed",
        "run again; if it stays, a proxy or sign-on page may answer instead of the server",
        "The answer was a 5xx, or HTML from a proxy, firewall or sign-on page where the API was expected."),
    row(Kind::JobUnfinished, "E154", 5, true, "the server's job is still running",
        "look again with `lakeport check ENV --job ID`",
        "The upload is complete and the server is still working on it. It may yet succeed: look before publishing \
         again."),
    row(Kind::Locked, "E155", 5, true, "another process is at work",
        "wait for the process named above, then run again",
        "Two runs on one target would overwrite each other."),
    row(Kind::NoColumns, "E201", 6, false, "a table without columns",
        "select at least one column",
        "No target can hold a table with zero columns."),
    row(Kind::DuplicateColumn, "E202", 6, false, "two columns of one name",
        "rename one of them in --sql: select a as x, b as y …",
        "Which of the two would arrive cannot be decided for you."),
    row(Kind::TypeRefused, "E203", 6, false, "a column type the target cannot hold",
        "set types.COLUMN, or leave the column out in --sql",
        "The mapping table of the format has no row for this type; see docs/types-hyper.md. Nested columns take \
         types.COLUMN = \"json\", \"flatten\" or \"drop\"."),
    row(Kind::ValueRefused, "E204", 6, false, "a value does not fit",
        "accept the loss by name with --lossy=COLUMN, or change the column's type",
        "The column's type is finer than the target's and Lakeport expected every value to fit (verdict `checked`). \
         The first value that did not fit stopped the run; nothing was published."),
    row(Kind::SchemaConflict, "E205", 6, false, "files of one table disagree",
        "cast to one type in --sql, or separate the files",
        "Schemas are merged where it is safe: a missing column becomes NULL, a narrower integer becomes the wider \
         one. Other differences would change values."),
    row(Kind::NotExact, "E206", 6, false, "a column cannot be kept exactly",
        "accept it by name with --lossy=COLUMN, or choose a type with types.COLUMN",
        "The target's format has no type that holds every value of this column. Lakeport does not round, cut or \
         replace values unless the column is named."),
    row(Kind::FileRefused, "E207", 6, false, "the server refused the file",
        "check the file-format version (`hyper_version`), the number of tables, and the server's version",
        "The server answered 400011 or a job failed. Usual causes: a Hyper file-format version the server does not \
         know, several tables on a server before 2021.4 or without a tree of foreign keys, a damaged upload."),
    row(Kind::VerifyFailed, "E301", 7, false, "what arrived is not what left",
        "do not use the target; run again, and report it with the run.json if it repeats",
        "The fingerprint of the batches that left the source and the one of the finished file differ, or the server \
         tells another row count. The report names table and column."),
    row(Kind::Interrupted, "E400", 130, true, "interrupted",
        "run the same command again",
        "The run was stopped by a signal. No half file was left under the target's name."),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_row_has_its_own_code_and_says_what_to_do() {
        let codes: HashSet<_> = ALL.iter().map(|a| a.code).collect();
        let kinds: HashSet<_> = ALL.iter().map(|a| a.kind).collect();
        assert_eq!(codes.len(), ALL.len());
        assert_eq!(kinds.len(), ALL.len());
        assert!(ALL.iter().all(|a| !a.help.is_empty() && a.explain.len() > 40));
        assert_eq!(of(Kind::NotExact).code, "E206");
        assert_eq!(of(Kind::NotExact).exit_code, 6);
    }
}
