//! Manifest, variables and start-up: what is accepted, and what the refusals say.

use crate::support::{Setup, guest_wasm};

const VARIABLES: &str = "[component.guest.variables]\n\
    said = \"<{{ greeting }}>\"\nplain = \"as it is\"\n[component.guest.environment]\nNAME = \"value\"";

#[test]
fn variables_come_from_the_flag_then_the_environment_then_the_default() {
    let setup = || Setup::new().component(VARIABLES);
    assert_eq!(setup().start().get_ok("/variable?name=said"), "<hello>");
    let from_environment = || setup().environment("SPIN_VARIABLE_GREETING", "from env");
    assert_eq!(
        from_environment().start().get_ok("/variable?name=said"),
        "<from env>"
    );
    let from_flag = from_environment().arguments(&["--variable", "greeting=a=b"]);
    assert_eq!(from_flag.start().get_ok("/variable?name=said"), "<a=b>");
    let from_file = setup().arguments(&["--variable", "greeting=@word"]);
    std::fs::write(from_file.dir().join("word"), "in a file").unwrap();
    assert_eq!(
        from_file.start().get_ok("/variable?name=said"),
        "<in a file>"
    );
}

#[test]
fn a_component_sees_only_its_own_variables() {
    let host = Setup::new()
        .component(VARIABLES)
        .environment("SECRET", "s")
        .start();
    assert_eq!(host.get_ok("/variable?name=plain"), "as it is");
    let (status, text) = host.get("/variable?name=greeting");
    assert_eq!(status, 400);
    assert!(text.starts_with("Error::Undefined"), "{text}");
    let (_, text) = host.get("/variable?name=Plain");
    assert!(text.starts_with("Error::InvalidName"), "{text}");
    assert_eq!(host.get_ok("/environment"), "[(\"NAME\", \"value\")]");
}

#[test]
fn a_folder_is_read_as_it_is_now_and_never_written() {
    let setup = Setup::new().component("files = [{ source = \"shown\", destination = \"/sa\" }]");
    // As the kubelet writes a token: a link to a link, of which the second changes at once.
    let shown = setup.dir().join("shown");
    for (folder, text) in [("..1", "first"), ("..2", "second")] {
        std::fs::create_dir_all(shown.join(folder)).unwrap();
        std::fs::write(shown.join(folder).join("token"), text).unwrap();
    }
    let link = |to: &str| {
        std::os::unix::fs::symlink(to, shown.join("..new")).unwrap();
        std::fs::rename(shown.join("..new"), shown.join("..data")).unwrap();
    };
    link("..1");
    std::os::unix::fs::symlink("..data/token", shown.join("token")).unwrap();
    std::fs::write(setup.dir().join("outside"), "secret").unwrap();
    std::os::unix::fs::symlink("../outside", shown.join("out")).unwrap();
    let host = setup.start();
    assert_eq!(host.get_ok("/file?path=/sa/token"), "first");
    link("..2");
    assert_eq!(host.get_ok("/file?path=/sa/token"), "second");
    for (what, path) in [
        ("file", "/sa/out"),
        ("file", "/sa/../outside"),
        ("file", "/etc/passwd"),
        ("write", "/sa/new"),
        ("write", "/sa/token"),
    ] {
        let (status, text) = host.get(&format!("/{what}?path={path}"));
        assert_eq!(status, 400, "{what} {path}: {text}");
    }
}

#[test]
fn refusals_name_what_is_wrong() {
    let manifest = |variables: &str, component: &str| {
        format!(
            "spin_manifest_version = 2\n[application]\nname = \"t\"\n[variables]\n{variables}\n\
             [[trigger.http]]\nroute = \"/...\"\ncomponent = \"guest\"\n[component.guest]\n{component}\n"
        )
    };
    let source = format!("source = '{}'", guest_wasm().display());
    let refused = |variables: &str, component: &str| {
        Setup::new().refused_with(&manifest(variables, &format!("{source}\n{component}")))
    };
    let text = refused(
        "a = { required = true }\nb = { required = true, secret = true }",
        "",
    );
    assert!(text.contains("a, b"), "{text}");
    let text = refused("", "allowed_outbound_hosts = [\"http://{{ nowhere }}\"]");
    assert!(text.contains("nowhere"), "{text}");
    let text = refused("", "allowed_outbound_hosts = [\"example.com\"]");
    assert!(text.contains("no scheme"), "{text}");
    let text = refused(
        "",
        "files = [{ source = \"missing\", destination = \"/sa\" }]",
    );
    assert!(
        text.contains("no folder") && text.contains("missing"),
        "{text}"
    );
    let text = refused("", "files = [{ source = \".\", destination = \"sa\" }]");
    assert!(text.contains("\"sa\" does not start with"), "{text}");
    let text = refused("", "files = [\"*.txt\"]");
    assert!(text.contains("files = "), "{text}");
    let text = refused("", "key_value_stores = [\"default\"]");
    assert!(text.contains("key_value_stores"), "{text}");
    let text = refused("", "sqlite_databases = [\"elsewhere\"]");
    assert!(text.contains("elsewhere"), "{text}");
    let text = Setup::new().refused_with(&manifest("", "source = \"not/built.wasm\""));
    assert!(text.contains("not/built.wasm: is it built?"), "{text}");
    let text = Setup::new()
        .runtime_config("[llm_compute]\ntype = \"x\"")
        .refused();
    assert!(text.contains("llm_compute"), "{text}");
    let text = Setup::new().arguments(&["--variable", "typo=1"]).refused();
    assert!(text.contains("typo"), "{text}");
    let cron = "[[trigger.cron]]\ncomponent = \"guest\"\ncron_expression = \"* * * * *\"";
    let text = Setup::new().trigger(cron).refused();
    assert!(text.contains("5 fields"), "{text}");
}

#[test]
fn imports_that_nobody_offers_are_named() {
    let setup = Setup::new();
    let path = setup.dir().join("foreign.wasm");
    std::fs::write(&path, component_importing("other:thing/api@1.0.0")).unwrap();
    let text = setup.refused_with(
        "spin_manifest_version = 2\n[application]\nname = \"t\"\n[[trigger.http]]\nroute = \"/...\"\n\
         component = \"guest\"\n[component.guest]\nsource = \"foreign.wasm\"\n",
    );
    assert!(text.contains("other:thing/api@1.0.0"), "{text}");
}

/// The smallest component that imports an instance with one function `f`, in the binary format.
fn component_importing(name: &str) -> Vec<u8> {
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    // A type: an instance that declares the type of a function without parameters and exports `f` of it.
    bytes.extend_from_slice(&[7, 13, 1, 0x42, 2, 1, 0x40, 0, 1, 0, 4, 0, 1, b'f', 1, 0][..]);
    bytes[9] = u8::try_from(bytes.len() - 10).unwrap();
    let mut import = vec![1, 0, u8::try_from(name.len()).unwrap()];
    import.extend_from_slice(name.as_bytes());
    import.extend_from_slice(&[5, 0]);
    bytes.extend_from_slice(&[10, u8::try_from(import.len()).unwrap()]);
    bytes.extend_from_slice(&import);
    bytes
}

#[test]
fn compiled_code_is_kept_and_a_broken_copy_is_replaced() {
    let setup = Setup::new().arguments(&["--compiled-dir", "compiled"]);
    drop(setup.start());
    let files = || -> Vec<_> {
        let entries = std::fs::read_dir(setup.dir().join("compiled")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let [file] = &files()[..] else {
        panic!("{:?}", files())
    };
    let made = std::fs::metadata(file).unwrap().modified().unwrap();
    drop(setup.start());
    assert_eq!(
        std::fs::metadata(file).unwrap().modified().unwrap(),
        made,
        "it was not made again"
    );
    std::fs::write(file, "broken").unwrap();
    let host = setup.start();
    host.wait_for_stderr("compiling again");
    host.get_ok("/");
    assert!(std::fs::metadata(file).unwrap().len() > 10_000);
}
