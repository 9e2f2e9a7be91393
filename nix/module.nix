# `services.narswarm` for NixOS. From the flake as `nixosModules.default`; without flakes import this file and set
# `services.narswarm.package = pkgs.callPackage ./package.nix { }`.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  inherit (lib)
    literalExpression
    mkDefault
    mkEnableOption
    mkIf
    mkOption
    types
    ;

  cfg = config.services.narswarm;
  format = pkgs.formats.toml { };

  # DynamicUser: the one folder that the unit may write.
  stateDir = "/var/lib/narswarm";

  # The program has its own defaults; TOML has no null.
  settings = lib.filterAttrsRecursive (_: value: value != null) cfg.settings;

  settingsFile = format.generate "narswarm-unchecked.toml" settings;

  # A mistake fails `nixos-rebuild`, not the running service.
  configFile = pkgs.runCommand "narswarm.toml" { preferLocalBuild = true; } ''
    ${lib.optionalString (pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform) ''
      ${lib.getExe cfg.package} check-config ${settingsFile}
    ''}
    cp ${settingsFile} $out
  '';

  # The end of `host:port`, `[v6]:port` and `/ip4/…/tcp/port`.
  portOf =
    listen:
    let
      port = builtins.match ".*(:|/tcp/)([0-9]+)" listen;
    in
    if port == null then
      throw "services.narswarm.openFirewall: expected a TCP port at the end of `${listen}`"
    else
      lib.toInt (lib.last port);

  listenOption =
    type: default: description:
    mkOption {
      type = types.nullOr type;
      default = null;
      example = default;
      description = "${description} `null` is the program's default, which is the example; `private` does not listen.";
    };
  portsOr = default: listen: if listen == null then default else map portOf (lib.toList listen);
in
{
  options.services.narswarm = {
    enable = mkEnableOption "narswarm, a binary cache on localhost that gets packages from peers and verifies every byte";

    package = lib.mkPackageOption pkgs "narswarm" { };

    useAsSubstituter = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether this machine's Nix asks narswarm, before the caches that it asks already: those stay, and their priority
        numbers decide the order. No key is added to `trusted-public-keys`: narswarm passes on the signatures that Nix
        trusts already.
      '';
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether to open the ports for others, on all interfaces: TCP for the peer listener and the swarm (6278 and 6279
        unless they were changed), and in profile `lan` UDP 5353, by which neighbours find each other. The cache listener
        stays on this machine in any case.
      '';
    };

    keyFiles = mkOption {
      type = types.attrsOf types.str;
      default = { };
      example = literalExpression ''
        {
          "narswarm.example.org,main.log.key" = config.age.secrets.feed-log.path;
          "narswarm.example.org,main.heartbeat.key" = config.age.secrets.feed-heartbeat.path;
        }
      '';
      description = ''
        Secret keys of the feeds that this machine publishes: file name in `${stateDir}/keys` (that of `narswarm feed
        create`), and where root finds the key. Handed over by `LoadCredential`; never a path in the Nix store, which
        everybody can read. Only needed for keys that were made on another machine. The root key stays there.
      '';
    };

    settings = mkOption {
      default = { };
      description = "The configuration file. It is checked with `narswarm check-config` when the system is built.";
      example = {
        profile = "lan";
        peers.urls = [ "http://10.0.0.2:6278" ];
      };
      type = types.submodule {
        freeformType = format.type;
        options = {
          profile = mkOption {
            type = types.enum [
              "private"
              "lan"
              "pool"
              "public"
            ];
            default = "private";
            description = "What this machine shares, and with whom. `private` shares, announces and joins nothing.";
          };
          cache.listen = mkOption {
            type = types.str;
            default = "127.0.0.1:6277";
            description = "Where this machine's Nix asks; a loopback address.";
          };
          peer.listen = listenOption types.str "0.0.0.0:6278" "Where peers ask over HTTP.";
          swarm.listen = listenOption (types.listOf types.str) [
            "/ip4/0.0.0.0/tcp/6279"
          ] "Where peers ask over libp2p.";
          state_dir = mkOption {
            type = types.str;
            default = stateDir;
            description = "Keys, feeds, and the packages on their way.";
          };
        };
      };
    };
  };

  config = mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.useAsSubstituter -> config.nix.enable;
        message = "services.narswarm.useAsSubstituter needs nix.enable: it is Nix that asks.";
      }
      {
        assertion = cfg.openFirewall -> cfg.settings.profile != "private";
        message = "services.narswarm.openFirewall needs services.narswarm.settings.profile other than `private`, which does not listen to others.";
      }
      {
        assertion = cfg.settings.state_dir == stateDir;
        message = "services.narswarm.settings.state_dir needs to be ${stateDir}, all that the unit may write; to have it on another disk, bind-mount that over /var/lib/private/narswarm.";
      }
      {
        assertion = lib.all (name: builtins.match "[a-z0-9._,-]+" name != null) (lib.attrNames cfg.keyFiles);
        message = "services.narswarm.keyFiles needs file names as attribute names, as `narswarm feed create` makes them.";
      }
      {
        assertion = lib.all (file: !lib.hasPrefix "${builtins.storeDir}/" file) (lib.attrValues cfg.keyFiles);
        message = "services.narswarm.keyFiles needs paths outside of ${builtins.storeDir}, where everybody can read.";
      }
    ];

    environment.systemPackages = [ cfg.package ];
    # Where `narswarm status` and the like look for it.
    environment.etc."narswarm/config.toml".source = configFile;

    nix.settings = mkIf cfg.useAsSubstituter {
      # Not `substituters`: that one is the user's, and a second definition of it would be merged with theirs.
      extra-substituters = [ "http://${cfg.settings.cache.listen}" ];
      # Without it Nix before 2.32 gives up a path when one cache fails (narswarm being restarted), though others have it.
      fallback = mkDefault true;
      # Seconds; Nix's own hour hides from this machine what a neighbour has published or has come back with since.
      narinfo-cache-negative-ttl = mkDefault 60;
    };

    networking.firewall.allowedTCPPorts = mkIf cfg.openFirewall (
      portsOr [ 6278 ] cfg.settings.peer.listen ++ portsOr [ 6279 ] cfg.settings.swarm.listen
    );
    # mDNS; other profiles look for nobody.
    networking.firewall.allowedUDPPorts = mkIf (cfg.openFirewall && cfg.settings.profile == "lan") [ 5353 ];

    systemd.services.narswarm = {
      description = "narswarm, a Nix binary cache on localhost";
      wantedBy = [ "multi-user.target" ];
      # Not network-online.target: it would hold up the boot of a machine without a network, which is served too.
      after = [ "network.target" ];
      # Exit code 2 is a configuration that will not mend itself; all else is tried again for ever, ever more slowly.
      startLimitIntervalSec = 0;

      serviceConfig = {
        Type = "exec";
        ExecStartPre = mkIf (cfg.keyFiles != { }) [
          "${pkgs.coreutils}/bin/install -d -m 0700 ${stateDir}/keys"
          "${pkgs.coreutils}/bin/install -m 0400 -t ${stateDir}/keys ${
            lib.concatMapStringsSep " " (name: "%d/${name}") (lib.attrNames cfg.keyFiles)
          }"
        ];
        ExecStart = "${lib.getExe cfg.package} serve --config ${configFile}";
        Restart = "always";
        RestartSec = 1;
        RestartSteps = 8;
        RestartMaxDelaySec = "5min";
        RestartPreventExitStatus = 2;
        # Responses under way get 10 s, then the swarm some more.
        TimeoutStopSec = 30;

        DynamicUser = true;
        StateDirectory = "narswarm";
        StateDirectoryMode = "0700";
        UMask = "0077";
        LoadCredential = lib.mapAttrsToList (name: path: "${name}:${path}") cfg.keyFiles;

        LimitNOFILE = 65536;
        # Keys are in memory.
        LimitCORE = 0;
        TasksMax = 256;
        MemoryMax = mkDefault "1G";
        # Builds come first.
        CPUWeight = mkDefault 50;
        IOWeight = mkDefault 50;

        ProtectSystem = "strict";
        ProtectHome = true;
        PrivateTmp = true;
        PrivateDevices = true;
        DeviceAllow = "";
        PrivateMounts = true;
        RemoveIPC = true;
        # It reads the store; it asks nothing of the daemon.
        InaccessiblePaths = [ "-/nix/var/nix/daemon-socket" ];

        NoNewPrivileges = true;
        CapabilityBoundingSet = "";
        AmbientCapabilities = "";
        PrivateUsers = true;
        LockPersonality = true;
        RestrictNamespaces = true;
        RestrictRealtime = true;
        RestrictSUIDSGID = true;

        ProtectClock = true;
        ProtectControlGroups = true;
        ProtectHostname = true;
        ProtectKernelLogs = true;
        ProtectKernelModules = true;
        ProtectKernelTunables = true;
        ProtectProc = "invisible";
        # Leaves `os.cpus()` empty; `os.availableParallelism()` and `os.freemem()` work.
        ProcSubset = "pid";
        # V8 compiles to memory that it then executes; `--jitless` is no way out, it drops WebAssembly.
        MemoryDenyWriteExecute = false;

        # Netlink lists the interfaces, which libp2p needs to know its addresses.
        RestrictAddressFamilies = [
          "AF_UNIX"
          "AF_INET"
          "AF_INET6"
          "AF_NETLINK"
        ];
        # Metadata services of clouds: a peer's or a feed's address must not lead there.
        IPAddressDeny = [
          "169.254.169.254/32"
          "fd00:ec2::254/128"
        ];
        SystemCallArchitectures = "native";
        SystemCallFilter = [
          "@system-service"
          "~@privileged"
          "~@resources"
        ];
        # Node raises its limit of open files at start, and goes on when it may not.
        SystemCallErrorNumber = "EPERM";
      };
    };
  };
}
