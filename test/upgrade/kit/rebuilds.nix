# Programs and libraries from Debian's sources, each with an rpath to zlib, by the compiler of this machine. Between the
# two generations nothing changes but zlib: what is above it is built anew of the same sources.
{
  # A folder for each source package, in which `apt-get source` was called.
  sources,
  # 1 or 2.
  generation,
  # What the linker is told: `sha1`, which is Debian's default, or `none`, which is that of nixpkgs.
  buildId,
}:
let
  # Such as zlib-1.2.13.dfsg, unpacked and patched.
  unpacked = package:
    let entries = builtins.readDir (sources + "/${package}");
    in builtins.head (builtins.filter (name: entries.${name} == "directory") (builtins.attrNames entries));

  build = package: inputs: script:
    derivation rec {
      name = unpacked package;
      inherit inputs;
      src = builtins.path { path = sources + "/${package}/${name}"; name = "${name}-source"; };
      system = builtins.currentSystem;
      builder = "/bin/sh";
      args = [ "-euc" "${prepare}\n${script}" ];
      PATH = "/usr/bin:/bin";
      SOURCE_DATE_EPOCH = "1";
      LC_ALL = "C";
      # No package of the machine is found, but for the C library.
      PKG_CONFIG_LIBDIR = builtins.concatStringsSep ":" (map (input: "${input}/lib/pkgconfig") inputs);
      CPPFLAGS = builtins.concatStringsSep " " (map (input: "-I${input}/include") inputs);
      CFLAGS = "-O2";
      LDFLAGS = builtins.concatStringsSep " " (
        [ "-Wl,--build-id=${buildId}" "-s" ] ++ map (input: "-L${input}/lib -Wl,-rpath,${input}/lib") inputs
      );
    };

  # The store has all files of one age, so that make sees nothing to be made again; `cp -a` keeps that.
  prepare = ''
    # Debian's awk is a link over /etc/alternatives, which a builder does not see.
    mkdir tools
    ln -s /usr/bin/mawk tools/awk
    export PATH=$PWD/tools:$PATH
    cp -a $src source
    chmod -R u+w source
    cd source
  '';

  # Static libraries are large, and for nobody here.
  autotools = package: inputs: options:
    build package inputs ''
      ./configure --prefix=$out ${options} >configure.log 2>&1 || { tail -n 40 configure.log; exit 1; }
      make >make.log 2>&1 || { tail -n 40 make.log; exit 1; }
      make install >install.log 2>&1 || { tail -n 40 install.log; exit 1; }
    '';
in
rec {
  # The change is a function more, as a fix would be one.
  zlib = build "zlib" [ ] ''
    if [ ${toString generation} -eq 2 ]; then
      printf '%s\n' >>zutil.c \
        'unsigned long ZEXPORT zlibSecondGeneration(unsigned long value);' \
        'unsigned long ZEXPORT zlibSecondGeneration(unsigned long value) { return value * 2654435761UL; }'
    fi
    ./configure --prefix=$out >configure.log
    make >make.log 2>&1
    make install >install.log
    rm $out/lib/libz.a
  '';
  libpng = autotools "libpng1.6" [ zlib ] "--disable-static";
  freetype = autotools "freetype" [ zlib libpng ]
    "--disable-static --with-zlib=yes --with-png=yes --with-bzip2=no --with-harfbuzz=no --with-brotli=no";
  file = autotools "file" [ zlib ] "--disable-static --disable-bzlib --disable-xzlib --disable-zstdlib --disable-libseccomp";
  pcre2 = autotools "pcre2" [ zlib ] "--disable-static --enable-pcre2grep-libz";
  rsync = autotools "rsync" [ zlib ]
    "--with-included-zlib=no --with-included-popt --disable-openssl --disable-xxhash --disable-zstd --disable-lz4 --disable-md2man --disable-acl-support --disable-xattr-support";
  curl = autotools "curl" [ zlib ]
    "--disable-static --with-zlib=${zlib} --without-ssl --without-libpsl --without-libidn2 --without-nghttp2 --without-brotli --without-zstd --without-librtmp --disable-ldap --disable-manual";

  all = derivation {
    name = "programs";
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-euc" "echo $programs >$out" ];
    programs = [ zlib libpng freetype file pcre2 rsync curl ];
  };
}
