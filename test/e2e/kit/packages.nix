# Input-addressed packages out of nothing but the host's shell and coreutils, with all that a NAR can hold.
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
in
rec {
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

  # More leaves than are asked for at once; the NARs of the first two have the same size.
  medium = random "medium-1.0" 24000000;
  sameSize = random "same-size" 24000000;
  otherSize = random "other-size" 3000000;
  mediums = build "mediums" "echo $medium $sameSize $otherSize > $out" { inherit medium sameSize otherSize; };
}
