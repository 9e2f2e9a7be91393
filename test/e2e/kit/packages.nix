# Input-addressed packages out of nothing but the host's shell and coreutils, with all that a NAR can hold.
{ diskBytes ? 300000000 }:
let
  build = name: script: inputs:
    derivation (inputs // {
      inherit name;
      system = builtins.currentSystem;
      builder = "/bin/sh";
      args = [ "-euc" script ];
      PATH = "/usr/bin:/bin";
    });

  random = name: bytes: build name ''
    mkdir -p $out/share
    head -c ${toString bytes} /dev/urandom > $out/share/data.bin
  '' { };

  library = number: build "library-${toString number}" ''
    mkdir -p $out/lib $out/bin $out/empty
    head -c 70000 /dev/urandom > $out/lib/lib.so.1.0
    ln -s lib.so.1.0 $out/lib/lib.so
    ln -s $out/lib $out/self
    printf '#!/bin/sh\nexec %s "$@"\n' "$previous" > $out/bin/run
    chmod +x $out/bin/run
  '' { previous = if number == 0 then "/bin/true" else library (number - 1); };

  smallFiles = build "small-files-1.0" ''
    mkdir $out
    i=0
    while [ $i -lt 5000 ]; do
      dir=$out/$((i / 250))
      [ -d $dir ] || mkdir $dir
      echo "small file number $i" > $dir/$i
      i=$((i + 1))
    done
  '' { };

  # Some packages, and the same ones after a library below them has changed: nothing but store paths differs in the others.
  # What a compiler would make of them stands for itself: programs of this machine, with references among their bytes.
  generation = number: rec {
    library = build "changed-1.0" ''
      mkdir -p $out/lib
      head -c 150000 /bin/sh > $out/lib/libchanged.so
      echo ${toString number} >> $out/lib/libchanged.so
    '' { };
    mixed = name: inputs: build name ''
      mkdir -p $out/bin $out/share
      for part in 1 2 3 4 5 6 7 8 9; do
        cat /bin/sh
        printf '\0%s/lib:%s/lib\0' $library $out
      done > $out/bin/${name}
      seq 1 400000 > $out/share/numbers
      printf '%s\n' $uses >> $out/share/numbers
      seq 1 100000 >> $out/share/numbers
      ln -s $out/bin/${name} $out/${name}
      [ -z "$uses" ] || ln -s $uses $out/uses
    '' ({ inherit library; uses = ""; } // inputs);
    first = mixed "first-1.0" { };
    second = mixed "second-2.0" { uses = first; };
    small = build "small-3.0" "echo $second $library > $out" { inherit second library; };
    unchanged = build "unchanged-1.0" "seq 1 1000 > $out" { };
    top = build "generation" "echo $small $unchanged > $out" { inherit small unchanged; };
  };

  # One package in two versions: nothing of it gets smaller by itself, and some bytes of each MiB differ.
  versioned = number: build "versioned-1.${toString number}" ''
    mkdir -p $out/share
    for part in 1 2 3 4 5 6 7 8; do
      head -c ''${part}000000 $base/share/data.bin | tail -c 1000000
      echo "part $part of version $version"
    done > $out/share/data
  '' { base = random "base" 8000000; version = toString number; };
in
rec {
  oldVersion = versioned 1;
  newVersion = versioned 2;

  before = (generation 1).top;
  after = (generation 2).top;

  # 200 MB and a NAR of more than 128 leaves.
  large = random "large-1.0" 200000000;

  # At least 20 paths.
  closure = build "program-1.0" ''
    mkdir -p $out/bin
    printf '#!/bin/sh\nexec %s/bin/run %s %s\n' $library $large $smallFiles > $out/bin/program
    chmod +x $out/bin/program
    ln -s $manual $out/manual
  '' {
    inherit large smallFiles;
    library = library 17;
    manual = build "manual-1.0" "echo 'a store path that is a file' > $out" { };
  };

  # So many bytes in a few large paths, and some small ones.
  disk = build "disk-1.0" "echo $parts $library $smallFiles > $out" {
    inherit smallFiles;
    library = library 17;
    parts = map (number: random "disk-${toString number}" (diskBytes / 4)) [ 1 2 3 4 ];
  };

  # More leaves than are asked for at once; the NARs of the first two have the same size.
  medium = random "medium-1.0" 24000000;
  sameSize = random "same-size" 24000000;
  otherSize = random "other-size" 3000000;
  # Large, middle and small ones.
  shelf = build "shelf" "echo $medium $sameSize $otherSize $library > $out" {
    inherit medium sameSize otherSize;
    library = library 17;
  };
  mediums = build "mediums" "echo $medium $sameSize $otherSize > $out" { inherit medium sameSize otherSize; };
}
