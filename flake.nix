{
  description = "A Nix binary cache on localhost that gets packages from whoever is near and trusts none of them";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      forAllSystems =
        make:
        lib.genAttrs [
          "x86_64-linux"
          "aarch64-linux"
          "x86_64-darwin"
          "aarch64-darwin"
        ] (system: make nixpkgs.legacyPackages.${system});
      packageFor = pkgs: self.packages.${pkgs.stdenv.hostPlatform.system}.narswarm;
    in
    {
      packages = forAllSystems (pkgs: rec {
        narswarm = pkgs.callPackage ./nix/package.nix { };
        default = narswarm;
      });

      apps = forAllSystems (pkgs: {
        default = {
          type = "app";
          program = lib.getExe (packageFor pkgs);
          meta.description = "Run narswarm";
        };
      });

      overlays.default = final: _: { narswarm = final.callPackage ./nix/package.nix { }; };

      nixosModules = rec {
        narswarm =
          { pkgs, ... }:
          {
            imports = [ ./nix/module.nix ];
            services.narswarm.package = lib.mkDefault (packageFor pkgs);
          };
        default = narswarm;
      };

      checks = forAllSystems (pkgs: { package = packageFor pkgs; } // (packageFor pkgs).tests);

      devShells = forAllSystems (pkgs: {
        default = pkgs.mkShellNoCC {
          packages = [
            pkgs.nodejs_24
            pkgs.nix
            pkgs.xz
          ];
        };
      });

      formatter = forAllSystems (pkgs: pkgs.nixfmt-tree);
    };
}
