//! Configurations in, what is in force or what is said about them out.

use std::path::{Path, PathBuf};

use super::*;

/// Quoted, so that tests can open the tables: TOML lets dotted keys and tables of a name not mix.
const GOOD: &str = "'application.id' = 'app'\n'module.source' = 'a.wasm'\n'kafka.bootstrap.servers' = 'k'\n";

fn parse(text: &str, variables: &[(&str, &str)]) -> Result<Config, Invalid> {
    Config::parse(Path::new("dir/f.toml"), text, &Environment::of(variables.iter().copied()), &Options::default())
}

fn good(text: &str, variables: &[(&str, &str)]) -> Config {
    parse(&format!("{GOOD}{text}"), variables).unwrap_or_else(|invalid| panic!("{text}: {invalid}"))
}

/// `text` comes after the three lines of [`GOOD`].
#[track_caller]
fn check(text: &str, expected: &str) {
    check_with(&format!("{GOOD}{text}"), &[], expected);
}

#[track_caller]
fn check_with(text: &str, variables: &[(&str, &str)], expected: &str) {
    let found = parse(text, variables).map_or_else(|invalid| invalid.to_string(), |config| format!("{config:?}"));
    assert_eq!(found, expected);
}

#[test]
fn defaults() {
    let config = good("", &[]);
    assert_eq!(config.application_id, "app");
    assert_eq!(config.instance_id, None);
    assert_eq!(config.module.source, ModuleSource::File("dir/a.wasm".into()));
    assert_eq!(config.module.memory_bytes, 256 << 20);
    assert_eq!(
        (config.module.call_timeout_ms, config.module.output_bytes, config.module.state_bytes),
        (5000, 64 << 20, 64 << 20)
    );
    assert_eq!(config.kafka.bootstrap_servers, "k:9092");
    assert_eq!(config.state_dir, PathBuf::from("dir/state"));
    assert_eq!((config.guarantee, config.commit_interval_ms), (Guarantee::AtLeastOnce, 1000));
    assert!(!config.commit_early);
    assert_eq!((config.threads, config.store_cache_bytes, config.overlay_bytes), (1, 10 << 20, 32 << 20));
    assert_eq!((config.max_task_idle_ms, config.replication_factor), (Some(0), -1));
    assert_eq!(config.standby_replicas, 0);
    assert_eq!(config.auto_offset_reset, OffsetReset::Earliest);
    assert_eq!(config.faults, Faults { policy: FaultPolicy::Fail, kinds: Vec::new() });
    assert_eq!(config.log, LogConfig { filter: "info".to_owned(), format: LogFormat::Text });
    assert!(config.warnings.is_empty());
}

#[test]
fn tls_takes_a_certificate_and_its_key() {
    assert_eq!(good("", &[]).http.tls, None);
    let files = "http.tls.certificate.file = 'tls.crt'\nhttp.tls.key.file = '/tls.key'\n";
    let tls = |authorities: Option<&str>| {
        let authorities = authorities.map(PathBuf::from);
        Some(TlsConfig { certificate: "dir/tls.crt".into(), key: "/tls.key".into(), authorities })
    };
    assert_eq!(good(files, &[]).http.tls, tls(None));
    assert_eq!(good(files, &[("MILLRACE_HTTP_TLS_CA_FILE", "ca.crt")]).http.tls, tls(Some("ca.crt")));
    check("http.tls.key.file = 'k'", "dir/f.toml:4: `http.tls.key.file` needs `http.tls.certificate.file`");
    check("http.tls.certificate.file = 'c'", "dir/f.toml:4: `http.tls.certificate.file` needs `http.tls.key.file`");
    check("http.tls.ca.file = 'a'", "dir/f.toml:4: `http.tls.ca.file` needs `http.tls.certificate.file`");
}

#[test]
fn values_of_every_type() {
    assert_eq!(good("num.stream.threads = '2'", &[]).threads, 2);
    assert!(good("group.leave.on.stop = true", &[]).leave_on_stop);
    assert!(good("", &[("MILLRACE_GROUP_LEAVE_ON_STOP", "true")]).leave_on_stop);
    let text = "processing.guarantee = 'exactly_once_v2'\nmax.task.idle.ms = -1\nstatestore.cache.max.bytes = 0\n\
                auto.offset.reset = 'latest'\nfaults.policy = 'dead-letter'\nfaults.dead.letter.topic = 'bad'\n\
                log = { level = 'warn,millrace_runtime=debug', format = 'json' }\n[state]\ndir = '/data/x'\n";
    let config = good(text, &[]);
    assert_eq!((config.guarantee, config.commit_interval_ms), (Guarantee::ExactlyOnce, 100));
    assert!(config.commit_early);
    assert_eq!((config.max_task_idle_ms, config.store_cache_bytes), (None, 0));
    assert_eq!(config.auto_offset_reset, OffsetReset::Latest);
    assert_eq!(config.faults.policy, FaultPolicy::DeadLetter("bad".to_owned()));
    assert_eq!(config.log, LogConfig { filter: "warn,millrace_runtime=debug".to_owned(), format: LogFormat::Json });
    assert_eq!(config.state_dir, PathBuf::from("/data/x"));
    let config = good("processing.guarantee = 'exactly_once_v2'\ncommit.interval.ms = 7", &[]);
    assert_eq!((config.commit_interval_ms, config.commit_early), (7, false));
}

#[test]
fn a_workload_identity_is_whole_or_none() {
    let all = [
        ("AZURE_CLIENT_ID", "client"),
        ("AZURE_TENANT_ID", "tenant"),
        ("AZURE_AUTHORITY_HOST", "https://authority/"),
        ("AZURE_FEDERATED_TOKEN_FILE", "/token"),
    ];
    let identity = WorkloadIdentity {
        client_id: "client".to_owned(),
        tenant_id: "tenant".to_owned(),
        authority: "https://authority/".to_owned(),
        token_file: "/token".into(),
    };
    assert_eq!(good("", &all).workload_identity, Some(identity));
    for (name, _) in &all[..3] {
        let config = good("", &all.map(|(each, value)| (each, if each == *name { "" } else { value })));
        assert_eq!(config.workload_identity, None);
        let [warning] = &config.warnings[..] else { panic!("{:?}", config.warnings) };
        assert!(warning.contains(name) && warning.contains("annotate the service account"), "{warning}");
    }
    // Some other program's, an authority's client with a secret for example.
    let config = good("", &all[..3]);
    assert_eq!((config.workload_identity, config.warnings), (None, Vec::new()));
}

#[test]
fn kinds_of_faults_have_policies_of_their_own() {
    let text = "faults.policy = 'skip'\nfaults.on.timeout = 'fail'\nfaults.dead.letter.topic = 'bad'";
    let faults = good(text, &[("MILLRACE_FAULTS_ON_DESERIALIZATION", "dead-letter")]).faults;
    let letters = FaultPolicy::DeadLetter("bad".to_owned());
    assert_eq!(faults.kinds, [(FaultKind::Deserialization, letters), (FaultKind::Timeout, FaultPolicy::Fail)]);
    assert_eq!((&faults.policy, faults.dead_letter_topic()), (&FaultPolicy::Skip, Some("bad")));
    // A topic that no policy sends anything to.
    assert_eq!(good("faults.dead.letter.topic = 'bad'", &[]).faults.dead_letter_topic(), None);
    check(
        "[faults.on]\ntrap = 'dead-letter'\nloop = 'skip'",
        "dir/f.toml:5: `faults.on.trap` is dead-letter, so `faults.dead.letter.topic` must name the topic\n\
         dir/f.toml:6: unknown key `faults.on.loop`; did you mean `faults.on.flood`?",
    );
}

#[test]
fn the_environment_goes_before_the_file_and_options_before_both() {
    let variables = [
        ("MILLRACE_COMMIT_INTERVAL_MS", "20"),
        ("MILLRACE_STATESTORE_CACHE_MAX_BYTES", "1MiB"),
        ("MILLRACE_MODULE_SOURCE", "b.wasm"),
        ("MILLRACE_GROUP_INSTANCE_ID", ""),
        ("KAFKA_BROKER", "one,two:1"),
    ];
    let config = good("commit.interval.ms = 5\ngroup.instance.id = 'kept'", &variables);
    assert_eq!((config.commit_interval_ms, config.store_cache_bytes), (20, 1 << 20));
    assert_eq!(config.module.source, ModuleSource::File("b.wasm".into()));
    assert_eq!(config.instance_id.as_deref(), Some("kept"));
    assert_eq!(config.kafka.bootstrap_servers, "one:9092,two:1");

    let both = [("KAFKA_BROKER", "one"), ("MILLRACE_KAFKA_BOOTSTRAP_SERVERS", "two")];
    assert_eq!(good("", &both).kafka.bootstrap_servers, "two:9092");

    let options =
        Options { module: Some("c.wasm".into()), log_format: Some("json".into()), log_level: Some("debug".into()) };
    let environment = Environment::of(variables);
    let config = Config::parse(Path::new("dir/f.toml"), GOOD, &environment, &options).expect("is valid");
    assert_eq!(config.module.source, ModuleSource::File("c.wasm".into()));
    assert_eq!(config.log, LogConfig { filter: "debug".to_owned(), format: LogFormat::Json });
}

#[test]
fn properties_pass_through_to_the_clients_that_have_them() {
    let text = "[kafka]\nretry.backoff.ms = 500\nlinger.ms = 1\nfetch.min.bytes = 1\nsocket.keepalive.enable = true\n\
                [kafka.consumer]\nfetch.min.bytes = 2\n[kafka.producer]\nrequest.timeout.ms = 20000\nretry.backoff.ms = 7\n";
    let variables = [("MILLRACE_KAFKA_CONSUMER_FETCH_MIN_BYTES", "3"), ("MILLRACE_KAFKA_LOG_LEVEL", "7")];
    let kafka = good(text, &variables).kafka;
    let show = |properties: std::collections::BTreeMap<String, String>| -> String {
        properties.iter().map(|(name, value)| format!("{name}={value} ")).collect()
    };
    assert_eq!(
        show(kafka.for_consumer()),
        "bootstrap.servers=k:9092 fetch.min.bytes=3 log_level=7 retry.backoff.ms=500 socket.keepalive.enable=true "
    );
    assert_eq!(
        show(kafka.for_producer()),
        "bootstrap.servers=k:9092 linger.ms=1 log_level=7 request.timeout.ms=20000 retry.backoff.ms=7 socket.keepalive.enable=true "
    );
    assert_eq!(
        show(kafka.for_admin()),
        "bootstrap.servers=k:9092 log_level=7 retry.backoff.ms=500 socket.keepalive.enable=true "
    );
}

#[test]
fn a_module_sees_what_it_is_granted() {
    let config = good("module.env = ['TOKEN', 'ABSENT']", &[("TOKEN", "geheim"), ("OTHER", "x")]);
    assert_eq!(config.module.env, [("TOKEN".to_owned(), "geheim".to_owned())]);
    assert_eq!(config.warnings, ["dir/f.toml:4: `module.env` grants ABSENT, which is not set"]);
    let config = good("", &[("MILLRACE_MODULE_ENV", "A, B"), ("A", "1"), ("B", "2")]);
    assert_eq!(config.module.env.len(), 2);
}

#[test]
fn secrets_are_not_printed() {
    let text = "module.env = ['TOKEN']\n[kafka]\nsasl.username = 'me'\nsasl.password = 'geheim'\nssl.key.password = 'geheim'\n\
                ssl.key.pem = 'geheim'\nsasl.oauthbearer.config = 'geheim'\nssl.keystore.password = 'geheim'\n";
    let config = good(text, &[("TOKEN", "geheim"), ("MILLRACE_KAFKA_PRODUCER_SASL_PASSWORD", "geheim")]);
    assert_eq!(config.kafka.for_producer()["sasl.password"], "geheim");
    let printed = format!("{}{config:?}{config:#?}", effective(&config));
    assert!(!printed.contains("geheim"), "{printed}");
    assert!(printed.contains("TOKEN") && printed.contains("me"));
    // The client as it is built here takes neither.
    for property in ["sasl.oauthbearer.client.secret", "sasl.oauthbearer.assertion.private.key.passphrase"] {
        assert_eq!(clients::shown(property, "geheim"), clients::REDACTED);
    }
}

#[test]
fn effective_names_every_key_and_its_origin() {
    let options = Options { module: Some("m".into()), ..Options::default() };
    let environment = Environment::of([("KAFKA_BROKER", "b")]);
    let text = format!("{GOOD}[kafka]\nsasl.password = 'x'");
    let config = Config::parse(Path::new("f.toml"), &text, &environment, &options).expect("is valid");
    let printed = effective(&config);
    let line = |key: &str| {
        let found = printed.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{key} in {printed}"));
        found.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("application.id "), "application.id app f.toml:1");
    assert_eq!(line("kafka.bootstrap.servers "), "kafka.bootstrap.servers b:9092 environment variable KAFKA_BROKER");
    assert_eq!(line("module.source "), "module.source m option --module");
    assert_eq!(line("statestore.cache.max.bytes "), "statestore.cache.max.bytes 10MiB default");
    assert_eq!(line("group.instance.id "), "group.instance.id - default");
    assert_eq!(line("kafka.sasl.password "), "kafka.sasl.password ******** f.toml:5");
    assert_eq!(printed.lines().count(), keys::KEYS.len() + 1);
}

#[test]
fn unknown_keys() {
    check(
        "processing.guarante = 'x'",
        "dir/f.toml:4: unknown key `processing.guarante`; did you mean `processing.guarantee`?",
    );
    check("[state]\ndirectory = 'x'", "dir/f.toml:5: unknown key `state.directory`; did you mean `state.dir`?");
    check("xyzzy = 1", "dir/f.toml:4: unknown key `xyzzy`; `millrace config --reference` lists all keys");
    check("bootstrap.servers = 'x'", "dir/f.toml:4: unknown key `bootstrap.servers`: say `kafka.bootstrap.servers`");
    check(
        "main.consumer.fetch.min.bytes = 1",
        "dir/f.toml:4: unknown key `main.consumer.fetch.min.bytes`: say `kafka.consumer.…`",
    );
    check("default.key.serde = 'x'", "dir/f.toml:4: unknown key `default.key.serde`: serdes are the module's affair");
    check(
        "cache.max.bytes.buffering = 1",
        "dir/f.toml:4: unknown key `cache.max.bytes.buffering`: say `statestore.cache.max.bytes`",
    );
    check(
        "a = 1\na = 2",
        "dir/f.toml:5: not valid TOML: duplicate key (`a.b = 1` and `[a]` don't mix either: write all keys of a table in one way)",
    );
    check("\"state.dir\" = 'x'\n[state]\ndir = 'y'", "dir/f.toml:6: `state.dir` is given twice");
}

#[test]
fn wrong_types_and_ranges() {
    let number = "an integer from 1 to 256";
    check(
        "num.stream.threads = 'two'",
        &format!("dir/f.toml:4: `num.stream.threads` must be {number}, not the string \"two\""),
    );
    check("num.stream.threads = 0", &format!("dir/f.toml:4: `num.stream.threads` must be {number}, not 0"));
    check("num.stream.threads = 1.5", &format!("dir/f.toml:4: `num.stream.threads` must be {number}, not a fraction"));
    check("num.stream.threads = true", &format!("dir/f.toml:4: `num.stream.threads` must be {number}, not true"));
    check("num.stream.threads = [1]", &format!("dir/f.toml:4: `num.stream.threads` must be {number}, not a list"));
    check(
        "num.stream.threads = 99999999999999999999",
        &format!("dir/f.toml:4: `num.stream.threads` must be {number}, not a number of more than 64 bits"),
    );
    check(
        "commit.interval.ms = -1",
        "dir/f.toml:4: `commit.interval.ms` must be an integer from 0 to 2678400000, not -1",
    );
    check("replication.factor = -2", "dir/f.toml:4: `replication.factor` must be an integer from -1 to 32767, not -2");
    check(
        "module.memory.bytes = '5 apples'",
        "dir/f.toml:4: `module.memory.bytes` must be a size from 1MiB to 4GiB, as `64MiB` or in bytes, not the string \"5 apples\"",
    );
    check(
        "module.memory.bytes = '8GiB'",
        "dir/f.toml:4: `module.memory.bytes` must be a size from 1MiB to 4GiB, as `64MiB` or in bytes, not the string \"8GiB\"",
    );
    check(
        "processing.guarantee = 'exactly_once'",
        "dir/f.toml:4: `processing.guarantee` must be at_least_once or exactly_once_v2, not the string \"exactly_once\"",
    );
    check("log.format = 1", "dir/f.toml:4: `log.format` must be text or json, not 1");
    check(
        "log.level = 'inof'",
        "dir/f.toml:4: `log.level` must be a level (off, error, warn, info, debug, trace) and `target=level`, comma-separated, not the string \"inof\"",
    );
    check(
        "group.leave.on.stop = 'yes'",
        "dir/f.toml:4: `group.leave.on.stop` must be true or false, not the string \"yes\"",
    );
    check(
        "module.env = 'A=B'",
        "dir/f.toml:4: `module.env` must be a list of names of environment variables, not the string \"A=B\"",
    );
    check("module.env = [1]", "dir/f.toml:4: `module.env` must be a list of names of environment variables, not 1");
    check(
        "faults.policy = 'skip'\nfaults.dead.letter.topic = 'a b'",
        "dir/f.toml:5: `faults.dead.letter.topic` must be the name of a topic, not the string \"a b\"",
    );
    check(
        "faults.policy = 'dead-letter'",
        "dir/f.toml:4: `faults.policy` is dead-letter, so `faults.dead.letter.topic` must name the topic",
    );
    let text = "application.id = 'a/b'\nmodule.source = ''\nkafka.bootstrap.servers = 'h:x'";
    check_with(
        text,
        &[],
        "dir/f.toml:1: `application.id` must be 1 to 150 of the characters a-z A-Z 0-9 . _ -, not the string \"a/b\"\n\
         dir/f.toml:2: `module.source` must be a path, `uploaded`, or `oci://REGISTRY/REPOSITORY@sha256:DIGEST`, not the string \"\"\n\
         dir/f.toml:3: `kafka.bootstrap.servers` must be `host` or `host:port`, comma-separated, not the string \"h:x\"",
    );
}

#[test]
fn missing_keys_are_all_named() {
    let found = parse("", &[]).expect_err("three are missing").to_string();
    let lines: Vec<&str> = found.lines().collect();
    assert_eq!(lines.len(), 3, "{found}");
    assert!(
        lines[0].starts_with("dir/f.toml: `application.id` is missing: set it here or by MILLRACE_APPLICATION_ID. ")
    );
    assert!(lines[1].starts_with(
        "dir/f.toml: `kafka.bootstrap.servers` is missing: set it here or by MILLRACE_KAFKA_BOOTSTRAP_SERVERS or KAFKA_BROKER. "
    ));
    assert!(lines[2].starts_with("dir/f.toml: `module.source` is missing: set it here or by MILLRACE_MODULE_SOURCE. "));
}

#[test]
fn properties_that_are_refused() {
    for (property, instead) in [
        ("group.id", "`application.id`"),
        ("enable.auto.commit", "`commit.interval.ms`"),
        ("auto.offset.reset", "`auto.offset.reset` without a prefix"),
        ("partition.assignment.strategy", "`range`"),
        ("isolation.level", "`processing.guarantee`"),
        ("transactional.id", "`processing.guarantee`"),
        ("enable.idempotence", "`processing.guarantee`"),
        ("group.instance.id", "`group.instance.id` without a prefix"),
        ("partitioner", "murmur2"),
        ("acks", "commit"),
        ("metadata.broker.list", "`kafka.bootstrap.servers`"),
        ("queuing.strategy", "change places"),
    ] {
        for table in ["kafka", "kafka.consumer", "kafka.producer", "kafka.admin"] {
            let found = parse(&format!("{GOOD}\n{table}.{property} = 'x'"), &[]).expect_err(property).to_string();
            let begin = format!("dir/f.toml:5: `{table}.{property}` is not yours to set: ");
            assert!(found.starts_with(&begin) && found.contains(instead), "{found}");
        }
    }
    check(
        "kafka.fetch.min.byte = 1",
        "dir/f.toml:4: librdkafka has no property `fetch.min.byte`; did you mean `kafka.fetch.min.bytes`?",
    );
    check("kafka.consumer.xyzzy = 1", "dir/f.toml:4: librdkafka has no property `xyzzy`");
    check(
        "kafka.consumer.linger.ms = 1",
        "dir/f.toml:4: `linger.ms` is a property of producers: say `kafka.producer.linger.ms`",
    );
    check(
        "kafka.admin.fetch.min.bytes = 1",
        "dir/f.toml:4: `fetch.min.bytes` is a property of consumers: say `kafka.consumer.fetch.min.bytes`",
    );
    check(
        "kafka.consumer.request.timeout.ms = 1",
        "dir/f.toml:4: `request.timeout.ms` is a property of producers: say `kafka.producer.request.timeout.ms`; \
         the time a consumer waits for an answer is `kafka.consumer.socket.timeout.ms`",
    );
    check(
        "kafka.sasl.jaas.config = 'x'",
        "dir/f.toml:4: librdkafka has no property `sasl.jaas.config`: say `sasl.username` and `sasl.password`",
    );
    check(
        "kafka.linger.ms = 1.5",
        "dir/f.toml:4: `kafka.linger.ms` must be a string, an integer or a boolean, not a fraction",
    );
}

#[test]
fn values_that_the_client_refuses() {
    check(
        "kafka.consumer.fetch.min.bytes = 'many'",
        "dir/f.toml:4: `kafka.consumer.fetch.min.bytes`: Invalid value for configuration property \"fetch.min.bytes\"",
    );
    check(
        "kafka.fetch.min.bytes = 0",
        "dir/f.toml:4: `kafka.fetch.min.bytes`: Configuration property \"fetch.min.bytes\" value 0 is outside allowed \
         range 1..100000000",
    );
    let no_login = "`kafka.sasl.mechanism` must say which";
    for text in ["", "\nkafka.sasl.mechanism = 'GSSAPI'", "\nkafka.producer.sasl.mechanism = 'PLAIN'"] {
        let found = parse(&format!("{GOOD}\nkafka.security.protocol = 'SASL_SSL'{text}"), &[]).expect_err(text);
        let found = found.to_string();
        assert!(found.starts_with("dir/f.toml:5: `kafka.security.protocol` asks for SASL") && found.contains(no_login));
    }
    let login = "\nkafka.security.protocol = 'sasl_ssl'\nkafka.sasl.mechanisms = 'PLAIN'";
    parse(&format!("{GOOD}{login}"), &[]).expect("a login that there is");
    let own = "\nkafka.admin.security.protocol = 'sasl_plaintext'";
    let found = parse(&format!("{GOOD}{own}"), &[]).expect_err("no login").to_string();
    assert!(found.starts_with("dir/f.toml:5: `kafka.admin.security.protocol` asks for SASL"), "{found}");
}

#[test]
fn wrong_variables() {
    check_with(
        GOOD,
        &[("MILLRACE_NUM_STREAM_THREADS", "many")],
        "environment variable MILLRACE_NUM_STREAM_THREADS: `num.stream.threads` must be an integer from 1 to 256, not `many`",
    );
    check_with(
        GOOD,
        &[("MILLRACE_NUM_STREAM_THREAD", "1")],
        "environment variable MILLRACE_NUM_STREAM_THREAD: overrides no key; did you mean MILLRACE_NUM_STREAM_THREADS?",
    );
    check_with(
        GOOD,
        &[("MILLRACE_KAFKA_GROUP_ID", "x")],
        "environment variable MILLRACE_KAFKA_GROUP_ID: `kafka.group.id` is not yours to set: the group is the application; use `application.id`",
    );
    check_with(
        GOOD,
        &[("MILLRACE_KAFKA_PRODUCER_LINGER_MILLIS", "1")],
        "environment variable MILLRACE_KAFKA_PRODUCER_LINGER_MILLIS: overrides no key; did you mean MILLRACE_KAFKA_PRODUCER_LINGER_MS?",
    );
    let config = good(
        "",
        &[
            ("MILLRACE_KAFKA_DIR", "1"),
            ("MILLRACE_RUN_DIR", "1"),
            ("MILLRACE_TEST_KAFKA", "x"),
            ("MILLRACE_PORT_80_TCP_ADDR", "x"),
            ("MILLRACE_SERVICE_HOST", "x"),
        ],
    );
    let ignored = |name: &str| format!("environment variable {name} overrides no key and is ignored");
    assert_eq!(config.warnings, [ignored("MILLRACE_KAFKA_DIR"), ignored("MILLRACE_RUN_DIR")]);
}

#[test]
fn everything_wrong_is_said_at_once_in_the_order_of_the_file() {
    let text = "num.stream.threads = 0\nprocesing.guarantee = 'x'\nmodule.source = 'm'\nkafka.group.id = 'g'\nkafka.bootstrap.servers = 'k'";
    let found = parse(text, &[("MILLRACE_LOG_FORMAT", "xml")]).expect_err("five problems");
    let begins: Vec<&str> = found.lines().iter().map(|line| line.split(": ").next().expect("has one")).collect();
    assert_eq!(
        begins,
        ["dir/f.toml", "dir/f.toml:1", "dir/f.toml:2", "dir/f.toml:4", "environment variable MILLRACE_LOG_FORMAT"]
    );
}

#[test]
fn a_file_that_is_not_there() {
    let found = Config::load(Path::new("/nowhere/f.toml"), &Environment::default(), &Options::default());
    let found = found.expect_err("is not there").to_string();
    assert!(found.starts_with("/nowhere/f.toml: cannot be read: No such file"), "{found}");
    assert!(found.ends_with("; name the configuration file with `-c FILE` or MILLRACE_CONFIG"), "{found}");
}

/// `millrace config --reference > docs/configuration.md` brings it up to date.
#[test]
fn the_reference_in_docs_is_up_to_date() {
    let written = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md"));
    assert_eq!(written.expect("read docs/configuration.md"), reference());
}

#[test]
fn the_reference_application_is_configured() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../guest-wordcount/counts.toml"));
    let config = Config::load(path, &Environment::default(), &Options::default()).expect("is valid");
    assert_eq!(config.application_id, "counts-app");
    assert_eq!(config.state_dir, PathBuf::from("/data/count-store"));
    assert_eq!(config.kafka.for_producer()["request.timeout.ms"], "20000");
    assert_eq!(config.kafka.for_consumer()["socket.timeout.ms"], "20000");
    for properties in [config.kafka.for_producer(), config.kafka.for_consumer(), config.kafka.for_admin()] {
        assert_eq!(properties["retry.backoff.ms"], "500");
    }
}
