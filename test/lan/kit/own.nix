# What somebody builds at home: a program of more than one leaf, a small file, and a source file with a secret in it.
let
  build = name: script: inputs:
    derivation (inputs // {
      inherit name;
      system = builtins.currentSystem;
      builder = "/bin/sh";
      args = [ "-euc" script ];
      PATH = "/usr/bin:/bin";
    });

  program = kind: build "${kind}-program" ''
    mkdir $out
    head -c 3000000 /dev/urandom > $out/program
    echo $small $config > $out/refers
  '' {
    small = build "${kind}-small" "head -c 1000 /dev/urandom > $out" { };
    config = builtins.toFile "${kind}-config" "password of ${kind}";
  };
in
{
  unsigned = program "unsigned";
  signed = program "signed";
}
