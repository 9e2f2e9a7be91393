# Packages as Debian published them, each a store path named as Nix would name it.
{
  # A folder with a .deb for each of `names`, such as libssl3-3.0.22.deb.
  debs,
  # With spaces between them.
  names,
}:
let
  derive = name: attributes: script:
    derivation (attributes // {
      inherit name;
      system = builtins.currentSystem;
      builder = "/bin/sh";
      args = [ "-euc" script ];
      PATH = "/usr/bin:/bin";
    });
  unpack = name:
    let deb = builtins.path { path = debs + "/${name}.deb"; name = "${name}.deb"; };
    in derive name { inherit deb; } "dpkg-deb --extract $deb $out";
in
{
  all = derive "packages" {
    packages = map unpack (builtins.filter builtins.isString (builtins.split " " names));
  } "echo $packages >$out";
}
