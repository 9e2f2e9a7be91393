# The outputs of flake.nix, with as much of a nixpkgs as it takes to see their names.
{ libPath }:
let
  lib = import libPath;
  systems = [
    "x86_64-linux"
    "aarch64-linux"
    "x86_64-darwin"
    "aarch64-darwin"
  ];
  package = {
    type = "derivation";
    name = "narswarm";
    outPath = "/stub/narswarm";
    meta.mainProgram = "narswarm";
    tests.check-config = { };
  };
  nixpkgs = {
    inherit lib;
    legacyPackages = lib.genAttrs systems (system: {
      stdenv.hostPlatform = { inherit system; };
      callPackage = path: _: assert lib.hasSuffix "/nix/package.nix" (toString path); package;
      mkShellNoCC = args: args;
      nodejs_24 = "nodejs";
      nix = "nix";
      xz = "xz";
      nixfmt-tree = "nixfmt-tree";
    });
  };
  outputs = (import ../../flake.nix).outputs {
    inherit nixpkgs;
    self = outputs;
  };
  linux = outputs // {
    packages = outputs.packages.x86_64-linux;
    apps = outputs.apps.x86_64-linux;
    checks = outputs.checks.x86_64-linux;
    devShells = outputs.devShells.x86_64-linux;
  };
in
{
  names = lib.mapAttrs (_: lib.attrNames) (removeAttrs linux [ "formatter" ]);
  systems = lib.attrNames outputs.packages;
  program = outputs.apps.x86_64-linux.default.program;
  overlay = (outputs.overlays.default nixpkgs.legacyPackages.x86_64-linux { }).narswarm.name;
}
