# The options of all settings, made from settings.json, and what their values come to.
{ lib }:
let
  inherit (builtins) attrNames concatMap fromJSON isFloat listToAttrs mapAttrs match readFile;
  inherit (lib) types;

  fields = fromJSON (readFile ./settings.json);

  # Settings that name the file of a secret.
  files = [
    "tls_key"
    "master_key_file"
    "backup_identity"
  ];

  isWithin =
    field: value:
    (!(field ? minimum) || value >= field.minimum)
    && (!(field ? exclusiveMinimum) || value > field.exclusiveMinimum)
    && (!(field ? maximum) || value <= field.maximum);

  bounds =
    field:
    lib.optionalString (field ? minimum) ", at least ${toString field.minimum}"
    + lib.optionalString (field ? exclusiveMinimum) ", above ${toString field.exclusiveMinimum}"
    + lib.optionalString (field ? maximum) ", at most ${toString field.maximum}";

  bounded =
    field: type:
    lib.types.addCheck type (isWithin field) // { description = type.description + bounds field; };

  plain = field: {
    boolean = types.bool;
    integer = bounded field types.int;
    number = bounded field types.number;
    path = types.path;
    string = if field ? pattern then types.strMatching field.pattern else types.str;
  };

  type =
    field:
    let
      one = if field ? enum then types.enum field.enum else (plain field).${field.type};
    in
    if field.nullable then types.nullOr one else one;

  option =
    field:
    lib.mkOption {
      type = type field;
      inherit (field) default;
      description = "${field.description} This is ${field.variable}.";
    };

  text =
    value:
    if value == true then
      "true"
    else if value == false then
      "false"
    else if isFloat value then
      builtins.toJSON value
    else
      toString value;

  variable =
    settings: name:
    let
      field = fields.${name};
      value = settings.${name};
    in
    lib.optional (value != null && value != field.default) {
      name = field.variable;
      value = text value;
    };

  isStored = path: path != null && lib.hasPrefix builtins.storeDir (toString path);
  holdsPassword =
    value:
    builtins.isString value
    && match "(.|\n)*(//[^@[:space:]]*:[^@[:space:]]*@|[?&](ssl)?password=)(.|\n)*" value != null;

  told = "would lie in the Nix store, where everybody can read it";
  about =
    settings: name:
    let
      field = fields.${name};
      value = settings.${name};
      option = "services.ai-stack.settings.${name}";
      remedy = "put ${field.variable} into services.ai-stack.environmentFile.";
    in
    lib.optional field.secret {
      assertion = value == null;
      message = "${option} ${told}: ${remedy}";
    }
    ++ lib.optional (field.type == "string") {
      assertion = !(holdsPassword value);
      message = "The password in ${option} ${told}: ${remedy}";
    }
    ++ lib.optional (builtins.elem name files) (outside "settings.${name}" value);

  outside = name: path: {
    assertion = !(isStored path);
    message = "The file of services.ai-stack.${name} ${told}: name it by a string that is the path of a file elsewhere.";
  };
in
{
  inherit outside;

  # services.ai-stack.settings, one option for each setting.
  options = mapAttrs (_: option) fields;

  # The variables of those that are not at their defaults.
  environment = settings: listToAttrs (concatMap (variable settings) (attrNames fields));

  # No secret may be among them.
  assertions = settings: concatMap (about settings) (attrNames fields);

  # A line of a unit's Environment=, in which systemd reads neither % nor quotes.
  assignment =
    name: value: builtins.toJSON "${name}=${builtins.replaceStrings [ "%" ] [ "%%" ] value}";
}
