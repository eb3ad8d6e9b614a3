"""The tables, once, for both databases.

Owns: every table, column and index, and which version brought it. Must never: run anything (migrations.py does). The types of
columns are those of `ddl`. Small dictionaries (`codes`, `segments`, `scopes`) keep an instance's row near 200 bytes; UIDs
are packed (uids.py), so 64 characters take 32 bytes. Every row of a tenant's data begins its keys with, or carries, tenant_id.

Counts and sets on studies and series ("visible": current version, not rejected) are maintained by instances.py and facts.py
inside the transaction that changes them, so that no question ever counts rows.
"""

from __future__ import annotations

from radiolith.index.ddl import Added, Index, Table, create_index, create_table, typed

VERSION = 6  # of the schema; a database with a newer one is refused


def _table(name: str, columns: str, key: str = "", since: int = 1) -> Table:
    return Table(name, tuple(part.strip() for part in columns.split(",")), tuple(key.split()), since)


# The columns of a key come first: of others SQLite 3.40 says in its integrity_check that a value is NULL which is not.
TABLES = (
    _table("meta", "key text!, value text!", "key"),
    _table("tenants", "id id, uid blob!, name text!, at int!, fact blob!"),
    # kind: codes.Code; tenant 0 for the standard's own vocabulary
    _table("codes", "id id, tenant_id int!, kind int!, value text!"),
    # state: 0 open, 1 sealed; indexed_end: every record before it is indexed
    # state 2 dropped: its rows have switched to copies, it goes some time after dropped_at
    _table("segments", "id id, uid blob!, tier text!, state int!, indexed_end int!, bytes int!, dropped_at int"),
    # kind: scopes.ScopeKind; study: packed UID or empty
    _table("scopes", "id id, tenant_id int!, kind int!, study blob!, uid blob!, position int!"),
    # anchor: packed study UID of a patient without an ID; first_key: received_at and object id the columns come from
    _table(
        "patients",
        "id id, tenant_id int!, anchor blob, first_key blob!, state int!, patient_name text, patient_id text, issuer text,"
        " birth_date int, sex text, traits text",
    ),
    _table(
        "patient_identifiers",
        "tenant_id int!, value text!, issuer text!, issuer_type text!, type text!, patient_id int!",
        "tenant_id value issuer",
    ),
    # other identifiers a header claims for its patient (OtherPatientIDsSequence): searched, never identity
    _table(
        "claimed_identifiers",
        "tenant_id int!, value text!, issuer text!, patient_id int!, issuer_type text!, type text!",
        "tenant_id value issuer patient_id",
    ),
    # folded names and phonetic keys; kind: person.NameKind; owner: patient or study row
    _table("names", "tenant_id int!, kind int!, name text!, owner_id int!", "tenant_id kind name owner_id"),
    _table(
        "studies",
        "id id, tenant_id int!, uid blob!, patient_id int, first_key blob!, study_date int!, study_time text, accession text,"
        " accession_issuer text, study_code text, description text, referring text, timezone text, modalities text!,"
        " classes text!, series int!, instances int!, rejected int!, size int!, changed_at int!",
    ),
    # ModalitiesInStudy in the order studies are listed
    _table(
        "study_modalities",
        "tenant_id int!, modality text!, study_date int!, study_id int!",
        "tenant_id modality study_date study_id",
    ),
    _table(
        "series",
        "id id, tenant_id int!, study_id int!, uid blob!, first_key blob!, number int, modality text, description text,"
        " body_part text, laterality text, station text, institution text, step_date int, step_time text, protocol text,"
        " manufacturer text, classes text!, instances int!, rejected int!, size int!",
    ),
    # items of RequestAttributesSequence
    _table(
        "series_requests",
        "series_id int!, item int!, tenant_id int!, step text!, procedure text!, accession text!",
        "series_id item",
    ),
    # one row a version or encoding; version counts within the identity in order of arrival; reason: code, 0 when not
    # rejected; number: attributes.NO_NUMBER when there is none
    _table(
        "instances",
        "id id, tenant_id int!, series_id int!, uid blob!, version int!, current int!, conflict int!, policy int!, reason int!,"
        " number int!, class int!, syntax int!, content_date int, content_time text, row_count int, column_count int, bits int,"
        " frames int, received_at int!, source int!, principal int!, segment_id int!, place_start int!, place_length int!,"
        " scope_id int!, size int!, object_id blob!, wrapped_key blob!, sha256 blob!, layout blob!, encoding_of blob",
    ),
    # records whose bytes were held already when they got here: two senders at once
    _table("duplicates", "object_id blob!, instance_id int!", "object_id"),
    # quarantined objects somebody dealt with
    _table("released", "object_id blob!, tenant_id int!", "object_id"),
    # records that are in the log but were refused: their transaction failed for good
    _table("voids", "object_id blob!", "object_id"),
    # the last word on an identity; kind: identities.Decision
    _table(
        "decisions",
        "tenant_id int!, study blob!, series blob!, sop blob!, kind int!, at int!, fact blob!, value text!",
        "tenant_id study series sop kind",
    ),
    _table(
        "facts",
        "object_id blob!, tenant_id int!, kind text!, at int!, by_name text!, known int!, body text!",
        "object_id",
    ),
    # users, tokens, peers, settings made by facts; removed rows stay so that an older fact cannot bring them back
    _table(
        "registry",
        "tenant_id int!, kind text!, name text!, at int!, fact blob!, removed int!, body text!",
        "tenant_id kind name",
    ),
    _table("token_uses", "secret blob!, used_at int!", "secret"),
    _table(
        "sessions",
        "secret blob!, tenant_id int!, user_name text!, created_at int!, seen_at int!, expires_at int!, address text!",
        "secret",
    ),
    _table(
        "quarantine",
        "id id, tenant_id int!, object_id blob!, segment_id int!, place_start int!, place_length int!, scope_id int!,"
        " wrapped_key blob!, size int!, original_size int!, sha256 blob!, reason text!, received_at int!, source int!,"
        " principal int!, sop_class text!, guess text!, released int!",
    ),
    _table(
        "audit",
        "id id, tenant_id int!, at int!, principal text!, action text!, study blob!, purpose text!, outcome text!, source text!,"
        " count int!, detail text!",
    ),
    # xid: PostgreSQL's transaction id, 0 on SQLite
    _table("changes", "number id, tenant_id int!, kind int!, study_id int!, instance_id int!, at int!, xid int!"),
    _table("cursors", "name text!, epoch text!, xid int!, number int!", "name"),
    # storage commitment requests; state: 0 pending, 1 done; items and result as JSON; no fact: asked again after a rebuild
    _table(
        "commitments",
        "tenant_id int!, transaction_uid text!, requested_at int!, claimed_at int!, state int!, items text!, result text!",
        "tenant_id transaction_uid",
    ),
    _table("nodes", "name text!, started_at int!, seen_at int!, body text!", "name"),
    _table("leases", "name text!, owner text!, until int!", "name"),
    # who failed to sign in lately, for all workers and nodes; subject: digest of a (user, address) pair, an address or a user;
    # tries within the window that began at `since`; rounds: lock-outs in a row; no fact, and gone soon after forget_at
    _table(
        "failed_sign_ins",
        "subject blob!, tries int!, since int!, locked_until int!, rounds int!, forget_at int!",
        "subject",
        since=2,
    ),
    # what is to go where; state, why and priority: outbox.State, Why, Priority; key: who orders twice under one key orders once;
    # next_at: due then, while somebody works on it the end of their lease; no fact: orders of a lost index are forgotten
    _table(
        "transfers",
        "id id, tenant_id int!, peer text!, study blob!, why int!, ordered_by text!, message_id int!, principal text!, key text,"
        " priority int!, syntax text!, state int!, attempts int!, next_at int!, owner text!, said text!, total int!,"
        " delivered int!, failed int!, commitment text!, created_at int!, changed_at int!",
        since=3,
    ),
    # its instances in the order they go; state: outbox.ItemState; status: of the peer's last answer (PS3.7 C); gone when all
    # is delivered
    _table(
        "transfer_items",
        "transfer_id int!, position int!, instance_id int!, state int!, tries int!, status int!, said text!",
        "transfer_id position",
        since=3,
    ),
    # the timer of a study: state 0 instances are arriving, 1 complete; due_at: complete then when nothing comes before;
    # first and last row of the instances of the round that is open
    _table(
        "arrivals",
        "study_id int!, tenant_id int!, state int!, due_at int!, round int!, instances int!, first_instance int!,"
        " last_instance int!",
        "study_id",
        since=4,
    ),
    # each time a study became complete, with what had come since the time before; forgotten after a while
    _table(
        "completions",
        "id id, tenant_id int!, study_id int!, round int!, at int!, instances int!, first_instance int!, last_instance int!",
        since=4,
    ),
    # who sends to us and how it usually does that; body: devices.Habits; learned again after a rebuild
    _table(
        "devices",
        "tenant_id int!, door text!, peer text!, first_at int!, last_at int!, studies int!, instances int!, body text!",
        "tenant_id door peer",
        since=4,
    ),
    # what is odd about a device, in words; kind: devices.Oddity; subject: what it is about, so that it is said once
    _table(
        "device_notices",
        "id id, tenant_id int!, door text!, peer text!, kind int!, subject text!, at int!, said text!, settled_at int!",
        since=4,
    ),
    # what a peer is to be told on an association of our own; kind, state: peer_reports.Kind, State; subject: transaction UID, or
    # row of `completions`; peer: its name, or '' where only its AE title is known; ours: the AE title it called; next_at: due
    # then, while somebody sends it the end of their lease
    _table(
        "peer_reports",
        "id id, tenant_id int!, kind int!, subject text!, aet text!, peer text!, ours text!, state int!, attempts int!,"
        " next_at int!, said text!, created_at int!, ended_at int!",
        since=5,
    ),
    # devices that called and are no peers: whom, from where, since when, how often; admitted: as strangers, or refused
    _table(
        "knocks",
        "tenant_id int!, calling text!, called text!, address text!, first_at int!, last_at int!, count int!, admitted int!",
        "tenant_id calling called address",
        since=5,
    ),
    # decisions about headers, places, patients and labels: every word that was said, active or not; see docs/decisions/100.
    # level: words.Level; study, series, sop: packed UIDs as received, patient, issuer: an identifier; '' where the subject has
    # none; slot: what is decided (a tag, 'place', 'into', 'state', …); target…: where a 'place' or 'into' points
    _table(
        "words",
        "tenant_id int!, level int!, study blob!, series blob!, sop blob!, patient text!, issuer text!, slot text!, at int!,"
        " fact blob!, op blob!, value text!, target blob!, target_patient text!, target_issuer text!",
        "tenant_id level study series sop patient issuer slot at fact",
        since=6,
    ),
    # what people did: one row for all words of an operation; undone: the last word of (undone_at, undone_fact)
    _table(
        "operations",
        "tenant_id int!, op blob!, at int!, fact blob!, undone int!, undone_at int!, undone_fact blob!, kind text!,"
        " by_name text!, why text!, reason text!, origin text, summary text!",
        "tenant_id op",
        since=6,
    ),
    # every rejection, restoration and choice of a version; `decisions` holds the last active word of each
    _table(
        "history",
        "tenant_id int!, study blob!, series blob!, sop blob!, at int!, fact blob!, kind text!, op blob!, value text!",
        "tenant_id study series sop at fact kind",
        since=6,
    ),
    # corrections of headers by their digest, as JSON; shared by all series they apply to
    _table("overlays", "tenant_id int!, digest blob!, body text!", "tenant_id digest", since=6),
    # what headers say of patient, study and series, as JSON; one row for all objects that say the same
    _table("descriptions", "id id, tenant_id int!, digest blob!, body blob!", since=6),
    # series as received whose instances are shown in other series; overlay: the corrections of their headers there
    _table("moved", "home_id int!, series_id int!, tenant_id int!, overlay blob", "home_id series_id", since=6),
    # every patient that the headers of a study name; more than one is a case for a person
    _table("study_patients", "study_id int!, patient_id int!, tenant_id int!", "study_id patient_id", since=6),
    # names under which a study is found though it shows others now; kind: study_names.Kind
    _table(
        "study_names",
        "tenant_id int!, kind int!, value text!, issuer text!, study_id int!",
        "tenant_id kind value issuer study_id",
        since=6,
    ),
    # level and owner_id: whose label it is; value '' is a mere word
    _table(
        "labels",
        "level int!, owner_id int!, name text!, value text!, tenant_id int!",
        "level owner_id name value",
        since=6,
    ),
    # values of attributes that a setting made searchable; attribute: code number; value: folded for matching
    _table(
        "extras",
        "instance_id int!, attribute int!, value text!, tenant_id int!",
        "instance_id attribute value",
        since=6,
    ),
    # how far the filling in of such an attribute has come, by rows of `instances`; state: 0 under way, 1 done
    _table("extra_fills", "attribute text!, done_row int!, last_row int!, state int!, at int!", "attribute", since=6),
    # peers that got something of a study from us; study: as it was shown then
    _table("copies", "tenant_id int!, study blob!, peer text!, at int!", "tenant_id study peer", since=6),
    # batches that a webhook could not be given; state: 0 to be tried again, 1 given up; first, last: numbers of changes
    _table(
        "deliveries",
        "id id, tenant_id int!, webhook text!, state int!, attempts int!, next_at int!, said text!, created_at int!,"
        " ended_at int!, body text!",
        since=6,
    ),
)

ADDED = (
    # series row of the identity an instance was received under, where that is not the series it is shown in
    Added("instances", "home_id int", since=6),
    # row of `descriptions`; of an instance only where it is not that of the series it was received in
    Added("series", "described int", since=6),
    Added("instances", "described int", since=6),
    # what was said about them, themselves or below: words.Flag
    Added("patients", "words int", since=6),
    Added("studies", "words int", since=6),
    # the patient that the headers name, where the study is shown under another one
    Added("studies", "home_patient int", since=6),
    # digest of the corrections of this series' headers
    Added("series", "overlay blob", since=6),
)

INDICES = (
    Index("tenants_uid", "tenants", ("uid",), unique=True),
    Index("codes_value", "codes", ("kind", "tenant_id", "value"), unique=True),
    Index("segments_uid", "segments", ("uid",), unique=True),
    Index("scopes_study", "scopes", ("study", "kind", "tenant_id", "uid"), unique=True),
    Index("patients_anchor", "patients", ("anchor", "tenant_id"), unique=True, where="anchor IS NOT NULL"),
    Index("identifiers_patient", "patient_identifiers", ("patient_id",)),
    Index("claimed_patient", "claimed_identifiers", ("patient_id",)),
    Index("patients_birth", "patients", ("tenant_id", "birth_date"), where="birth_date IS NOT NULL"),
    Index("names_owner", "names", ("owner_id", "kind")),
    Index("studies_uid", "studies", ("uid", "tenant_id"), unique=True),
    Index("studies_date", "studies", ("tenant_id", "study_date", "id")),
    Index("studies_rejected", "studies", ("tenant_id", "study_date", "id"), where="rejected > 0"),
    Index("studies_patient", "studies", ("patient_id",)),
    Index("studies_accession", "studies", ("tenant_id", "accession"), where="accession IS NOT NULL"),
    Index("studies_code", "studies", ("tenant_id", "study_code"), where="study_code IS NOT NULL"),
    Index("series_uid", "series", ("uid", "study_id"), unique=True),
    Index("series_study", "series", ("study_id", "id")),
    Index("series_step", "series", ("tenant_id", "step_date", "study_id"), where="step_date IS NOT NULL"),
    Index("requests_step", "series_requests", ("tenant_id", "step")),
    Index("requests_procedure", "series_requests", ("tenant_id", "procedure")),
    Index("instances_uid", "instances", ("uid", "series_id", "version"), unique=True),
    Index("instances_series", "instances", ("series_id", "number", "id")),
    Index("instances_conflict", "instances", ("tenant_id", "uid"), where="conflict = 1"),
    Index("instances_object", "instances", ("object_id",), unique=True),
    Index("decisions_latest", "decisions", ("tenant_id", "kind", "at", "sop"), where="value <> ''"),
    Index("duplicates_instance", "duplicates", ("instance_id",)),
    Index("facts_unknown", "facts", ("kind",), where="known = 0"),
    Index("quarantine_object", "quarantine", ("object_id",), unique=True),
    Index("quarantine_latest", "quarantine", ("tenant_id", "received_at", "object_id"), where="released = 0"),
    Index("registry_at", "registry", ("at",)),
    Index("sessions_expiry", "sessions", ("expires_at",)),
    Index("audit_tenant", "audit", ("tenant_id", "id")),
    Index("changes_order", "changes", ("xid", "number"), only="postgresql"),
    Index("failed_sign_ins_forget", "failed_sign_ins", ("forget_at",), since=2),
    Index("transfers_live", "transfers", ("tenant_id", "peer", "priority", "id"), where="state < 3", since=3),
    Index("transfers_failed", "transfers", ("tenant_id", "peer"), where="state IN (4, 5)", since=3),
    Index("transfers_key", "transfers", ("tenant_id", "key"), unique=True, where="key IS NOT NULL", since=3),
    Index("transfers_listed", "transfers", ("tenant_id", "id"), since=3),
    Index("transfers_ended", "transfers", ("changed_at",), where="state > 2", since=3),
    Index("transfers_commitment", "transfers", ("tenant_id", "commitment"), where="commitment <> ''", since=3),
    Index("arrivals_due", "arrivals", ("due_at",), where="state = 0", since=4),
    Index("completions_at", "completions", ("at",), since=4),
    Index("notices_subject", "device_notices", ("tenant_id", "door", "peer", "kind", "subject"), unique=True, since=4),
    Index("notices_latest", "device_notices", ("tenant_id", "at", "id"), since=4),
    Index("reports_subject", "peer_reports", ("tenant_id", "kind", "subject", "aet"), unique=True, since=5),
    Index("reports_due", "peer_reports", ("next_at",), where="state = 0", since=5),
    Index("reports_ended", "peer_reports", ("ended_at",), where="state > 0", since=5),
    Index("reports_listed", "peer_reports", ("tenant_id", "id"), since=5),
    Index("patients_state", "patients", ("tenant_id", "state", "id"), where="state <> 0", since=6),
    Index("instances_home", "instances", ("home_id",), where="home_id IS NOT NULL", since=6),
    Index(
        "instances_versions", "instances", ("tenant_id", "uid"), where="version > 0 AND encoding_of IS NULL", since=6
    ),
    Index("descriptions_digest", "descriptions", ("digest", "tenant_id"), unique=True, since=6),
    Index("moved_series", "moved", ("series_id",), since=6),
    Index("words_op", "words", ("tenant_id", "op"), since=6),
    Index("words_target", "words", ("tenant_id", "target"), where="target <> {empty}", since=6),
    Index(
        "words_patient",
        "words",
        ("tenant_id", "target_patient", "target_issuer"),
        where="target_patient <> ''",
        since=6,
    ),
    Index("operations_latest", "operations", ("tenant_id", "at", "op"), since=6),
    Index("history_op", "history", ("tenant_id", "op"), since=6),
    Index("study_patients_patient", "study_patients", ("patient_id",), since=6),
    Index("study_names_study", "study_names", ("study_id",), since=6),
    Index("labels_found", "labels", ("tenant_id", "name", "value", "level", "owner_id"), since=6),
    Index("extras_value", "extras", ("tenant_id", "attribute", "value", "instance_id"), since=6),
    Index("deliveries_due", "deliveries", ("webhook", "tenant_id", "state", "next_at"), since=6),
)


def columns_of(table: str) -> list[str]:
    """Names of a table's columns, those that came later last."""
    first = [column for made in TABLES if made.name == table for column in made.columns]
    return [column.split(" ")[0] for column in (*first, *(one.column for one in ADDED if one.table == table))]


def statements(dialect: str, since: int) -> list[str]:
    """What the given schema version brought, in order: all tables first."""
    made = [create_table(table, dialect) for table in TABLES if table.since == since]
    made += [f"ALTER TABLE {one.table} ADD COLUMN {typed(one.column, dialect)}" for one in ADDED if one.since == since]
    indices = [index for index in INDICES if index.since == since and index.only in ("", dialect)]
    return made + [create_index(index, dialect) for index in indices]
