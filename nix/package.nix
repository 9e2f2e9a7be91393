# From nixpkgs by callPackage. nixpkgs' nodejs_24 serves at build and at run time: the Node that the npm package carries
# for other machines (node-linux-*) is linked against a loader that is not there, and is never fetched.
{
  lib,
  buildNpmPackage,
  importNpmLock,
  nodejs_24,
  runCommand,
  versionCheckHook,
}:

let
  package = lib.importJSON ../package.json;
  packageLock = lib.importJSON ../package-lock.json;

  # npm would put it into node_modules/.bin/node, before ours in the PATH of every npm script.
  isBundledNode = lib.hasPrefix "node-linux-";
  withoutBundledNode =
    attrs:
    attrs
    // lib.optionalAttrs (attrs ? optionalDependencies) {
      optionalDependencies = lib.filterAttrs (name: _: !isBundledNode name) attrs.optionalDependencies;
    };

  # Peers that nobody depends on otherwise are unused. Entries without a hash are linters for platforms on which the lock
  # file was not made: optional, and not needed to build.
  isWanted =
    path: entry:
    path == ""
    || (
      !(entry.peer or false) && entry ? integrity && !isBundledNode (lib.removePrefix "node_modules/" path)
    );

  # npm's omit-lockfile-registry-resolved leaves the URLs out; importNpmLock cannot do without. The integrity stands.
  withUrl =
    path: entry:
    let
      name = entry.name or (lib.last (lib.splitString "node_modules/" path));
      url = "https://registry.npmjs.org/${name}/-/${baseNameOf name}-${entry.version}.tgz";
    in
    if path == "" then withoutBundledNode entry else { resolved = url; } // entry;
in
buildNpmPackage (finalAttrs: {
  pname = package.name;
  inherit (package) version;

  # Neither tests nor documentation: they rebuild nothing.
  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../LICENSE
      ../bin
      ../package-lock.json
      ../package.json
      ../src
      ../tsconfig.build.json
      ../tsconfig.json
    ];
  };

  nodejs = nodejs_24;
  npmDeps = importNpmLock {
    package = withoutBundledNode package;
    packageLock = packageLock // {
      packages = lib.mapAttrs withUrl (lib.filterAttrs isWanted packageLock.packages);
    };
  };
  inherit (importNpmLock) npmConfigHook;
  # The peers are not in the lock file any more, and there is no network to look for them.
  npmFlags = [ "--legacy-peer-deps" ];
  # No dependency of ours needs its install script, and those that have one would download.
  npmRebuildFlags = [ "--ignore-scripts" ];
  # `prepack` would build a second time, and its output is no JSON.
  npmPackFlags = [ "--ignore-scripts" ];

  doInstallCheck = true;
  nativeInstallCheckInputs = [ versionCheckHook ];
  versionCheckProgramArg = "--version";

  passthru.tests.check-config = runCommand "narswarm-check-config" { } ''
    echo 'profile = "private"' >narswarm.toml
    ${lib.getExe finalAttrs.finalPackage} check-config narswarm.toml >$out
  '';

  meta = {
    inherit (package) description;
    license = lib.licenses.mit;
    mainProgram = "narswarm";
    platforms = lib.platforms.linux ++ lib.platforms.darwin;
  };
})
