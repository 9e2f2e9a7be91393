# What nix/module.nix makes of a configuration. The rest of NixOS is stubs: an option each that the module may set, and
# no freeform place, so that one spelled wrong fails here.
{ libPath, configuration }:
let
  lib = import libPath;
  inherit (lib) mkOption types;

  option = type: default: mkOption { inherit type default; };

  # As in nixpkgs' pkgs/pkgs-lib/formats.nix; the value as JSON in place of a file's path.
  toml = {
    type =
      let
        value = types.oneOf [
          types.bool
          types.int
          types.float
          types.str
          types.path
          (types.attrsOf value)
          (types.listOf value)
        ];
      in
      value;
    generate = _: builtins.toJSON;
  };

  pkgs = {
    formats.toml = { }: toml;
    runCommand = name: _: script: {
      type = "derivation";
      inherit name script;
      outPath = "/stub/${name}";
    };
    narswarm = {
      type = "derivation";
      name = "narswarm";
      outPath = "/stub/narswarm";
      meta.mainProgram = "narswarm";
    };
    coreutils = "/stub/coreutils";
    stdenv = {
      buildPlatform.canExecute = _: true;
      hostPlatform = { };
    };
  };

  # As nixos/modules/config/nix.nix has it.
  confAtom = types.oneOf [
    types.bool
    types.int
    types.float
    types.str
  ];
  directive = types.oneOf [
    types.bool
    types.int
    types.str
    (types.listOf types.str)
  ];

  nixos.options = {
    assertions = option (types.listOf types.unspecified) [ ];
    environment.systemPackages = option (types.listOf types.package) [ ];
    environment.etc = option (types.attrsOf (types.attrsOf types.unspecified)) { };
    networking.firewall.allowedTCPPorts = option (types.listOf types.port) [ ];
    networking.firewall.allowedUDPPorts = option (types.listOf types.port) [ ];
    nix.enable = option types.bool true;
    nix.settings = option (types.attrsOf (types.either confAtom (types.listOf confAtom))) { };
    systemd.services = option (types.attrsOf (
      types.submodule {
        options = {
          description = option types.str "";
          wantedBy = option (types.listOf types.str) [ ];
          after = option (types.listOf types.str) [ ];
          startLimitIntervalSec = option types.int 10;
          serviceConfig = option (types.attrsOf directive) { };
        };
      }
    )) { };
  };

  inherit
    (lib.evalModules {
      specialArgs = { inherit pkgs; };
      modules = [
        nixos
        ../../nix/module.nix
        configuration
      ];
    })
    config
    ;
  etc = config.environment.etc."narswarm/config.toml" or null;
in
{
  failed = map (a: a.message) (lib.filter (a: !a.assertion) config.assertions);
  units = config.systemd.services;
  nixSettings = config.nix.settings;
  ports = {
    tcp = config.networking.firewall.allowedTCPPorts;
    udp = config.networking.firewall.allowedUDPPorts;
  };
  packages = map (p: p.name) config.environment.systemPackages;
  check = if etc == null then null else etc.source.script;
}
