//! The names that columns and tables have, in English, Spanish and Catalan, and what they mean.

use super::personal::Look;
use crate::api::FakeKind;

/// The words of a name: `lastName2`, `last_name`, `LASTName` are `last`, `name`.
pub fn words(name: &str) -> Vec<String> {
    let mut out: Vec<String> = vec![String::new()];
    let chars: Vec<char> = name.chars().collect();
    for (at, c) in chars.iter().enumerate() {
        let before = at.checked_sub(1).map(|b| chars[b]);
        let after = chars.get(at + 1);
        let begins = c.is_uppercase()
            && before.is_some_and(|b| b.is_lowercase() || (b.is_uppercase() && after.is_some_and(|a| a.is_lowercase())));
        if begins || !c.is_alphabetic() {
            out.push(String::new());
        }
        if c.is_alphabetic()
            && let Some(word) = out.last_mut()
        {
            word.extend(c.to_lowercase().map(|c| match c {
                'á' | 'à' => 'a',
                'é' | 'è' => 'e',
                'í' | 'ï' => 'i',
                'ó' | 'ò' => 'o',
                'ú' | 'ü' => 'u',
                'ç' => 'c',
                c => c,
            }));
        }
    }
    out.retain(|w| !w.is_empty());
    out
}

/// Words with spaces in between, of one case and without accents.
pub type Words = &'static str;

fn has(list: Words, word: &str) -> bool {
    list.split_whitespace().any(|w| w == word)
}

/// Whether one of the words is in a list.
pub fn any(words: &[String], list: Words) -> bool {
    words.iter().any(|w| has(list, w))
}

/// Whether the last of the words is in a list.
pub fn last(words: &[String], list: Words) -> bool {
    words.last().is_some_and(|w| has(list, w))
}

/// Whether two words stand side by side, each in its list.
pub fn pair(words: &[String], (first, second): (Words, Words)) -> bool {
    words.windows(2).any(|pair| has(first, &pair[0]) && has(second, &pair[1]))
}

/// Words of which one is enough. Where a name has several, the first of this list counts: `attendee_email` is an address, and
/// `address_zip` a postcode.
const WORDS: &[(Words, Look)] = &[
    ("email emails mail mails correo correu mailto bcc", Look::Fake(FakeKind::Email)),
    (
        "phone phones telephone telefono telefon mobile movil mobil fax msisdn cellphone tel whatsapp telefonnummer",
        Look::Fake(FakeKind::Phone),
    ),
    ("zip zipcode postcode postalcode postal codipostal cp", Look::Fake(FakeKind::Postcode)),
    ("ip ips ipaddress ipaddr", Look::Fake(FakeKind::Ip)),
    ("street address direccion domicilio calle adreca carrer", Look::Fake(FakeKind::Street)),
    ("surname surnames lastname lname apellido apellidos cognom cognoms", Look::Fake(FakeKind::LastName)),
    ("firstname forename forenames givenname fname middlename", Look::Fake(FakeKind::FirstName)),
    ("fullname realname displayname attendee cardholder", Look::Fake(FakeKind::FullName)),
    (
        "username login nickname nicename usuario usuari linkedin twitter skype facebook instagram telegram discord \
    mastodon bluesky",
        Look::Fake(FakeKind::Username),
    ),
    ("iban", Look::Fake(FakeKind::Iban)),
    ("bic swift", Look::Bank),
    ("pan cardnumber creditcard ccnumber", Look::Fake(FakeKind::Card)),
    ("dob birthday birthdate birth born nacimiento naixement", Look::Birth),
    (
        "ssn dni nif nie nuss curp cpf bsn pesel nino mrn passport pasaporte passaport vatid taxid fingerprint imei \
    macaddress licenseplate matricula",
        Look::Identity,
    ),
    (
        "password passwd passphrase passcode pwd pass secret secrets apikey apitoken salt otp totp cvv cvc jwt credential \
    credentials contrasena contrasenya",
        Look::Secret,
    ),
    ("avatar photo foto selfie", Look::Picture),
    ("latitude longitude geolocation lat lng lon gps", Look::Place),
    ("salary salario salari income sueldo sou wage nomina", Look::Income),
    (
        "gender sex sexo sexe religion ethnicity race nationality nacionalidad diagnosis diagnostico disability allergy \
    allergies medication marital",
        Look::Trait,
    ),
    ("biography bio signature pronouns", Look::Fake(FakeKind::Text)),
];

/// Words that must stand side by side.
const PAIRS: &[(Words, Words, Look)] = &[
    ("first given middle", "name names", Look::Fake(FakeKind::FirstName)),
    ("last family maiden", "name names", Look::Fake(FakeKind::LastName)),
    ("name", "first given", Look::Fake(FakeKind::FirstName)),
    ("name", "last family", Look::Fake(FakeKind::LastName)),
    (
        "full display real contact customer person attendee holder billing shipping recipient guest member employee \
    author sender owner passenger patient student preferred buyer payer beneficiary tutor legal",
        "name names",
        Look::Fake(FakeKind::FullName),
    ),
    ("nombre nom", "completo complet cliente client", Look::Fake(FakeKind::FullName)),
    ("user login nick screen", "name", Look::Fake(FakeKind::Username)),
    ("postal post zip", "code", Look::Fake(FakeKind::Postcode)),
    ("postal mailing", "address", Look::Fake(FakeKind::Street)),
    ("wallet mac", "address", Look::Identity),
    ("card cc", "number", Look::Fake(FakeKind::Card)),
    ("last first", "digits four", Look::Fake(FakeKind::Card)),
    ("account", "number iban", Look::Identity),
    ("tax vat national social identity document license licence passport", "id number security no", Look::Identity),
    ("external extern device advertising", "id uid identifier user", Look::Identity),
    ("image picture", "url uri path", Look::Picture),
    (
        "api private access session reset refresh secret signing encryption activation license licence auth webhook \
    consumer recovery remember",
        "key keys token data",
        Look::Secret,
    ),
    ("session", "id", Look::Secret),
    ("token", "digest hash salt", Look::Secret),
    (
        "verification confirmation otp backup recovery activation invite invitation reset pin auth",
        "code codes hash",
        Look::Secret,
    ),
    ("reply", "to", Look::Fake(FakeKind::Email)),
    ("remote", "addr", Look::Fake(FakeKind::Ip)),
];

/// Words that say it where they are the last: `reset_token`, and not `token_name`.
const LAST: &[(Words, Look)] = &[
    ("token tokens", Look::Secret),
    ("by assignee author username", Look::Fake(FakeKind::Username)),
    ("recipient recipients sender", Look::Fake(FakeKind::Text)),
];

/// Last words of what is said about a thing, and is not the thing: `mail_subject`, `email_verified`, `address_type`.
const ABOUT: Words = "subject body template format text html type kind status state provider backend driver verified confirmed sent \
    enabled disabled required asked allowed visible visibility valid at on date time until expires expiry expiration \
    changed updated created used count counter counts attempts limit length size version order position priority \
    strength policy scheme algo algorithm encoder constraint regex pattern label placeholder help host port server \
    domain notification notifications settings preference preferences language locale country method brand category \
    prefix delay interval timeout month year source";

/// What the words of a name look like.
pub fn look(words: &[String]) -> Option<Look> {
    let pair = PAIRS.iter().find(|(a, b, _)| pair(words, (a, b))).map(|(.., look)| *look);
    let ends = || LAST.iter().find(|(names, _)| last(words, names)).map(|(_, look)| *look);
    let single = || WORDS.iter().find(|(names, _)| any(words, names)).map(|(_, look)| *look);
    let about = words.len() > 1 && last(words, ABOUT);
    // A constraint's copy of an address is one, a year of birth is a date of it.
    let sorts = words.len() > 1 && any(&words[words.len() - 2..], "sort order group sorted ordered grouped");
    let found = match ends().filter(|_| !sorts) {
        Some(Look::Secret) => Some(Look::Secret),
        ends => pair.or_else(single).or(ends),
    }?;
    match found {
        Look::Fake(FakeKind::Email) if last(words, "constraint") => Some(found),
        Look::Birth => Some(found),
        // The name of a secret, and whose it is.
        Look::Secret if last(words, "name user username owner url scope scopes") => None,
        _ if about => None,
        found => Some(found),
    }
}

/// Words of what says little of who somebody is, and does not go as it is all the same.
pub const AROUND: &[(Words, FakeKind)] = &[
    ("city town ciudad poblacion localidad ciutat poblacio birthplace", FakeKind::City),
    ("company employer empresa", FakeKind::Company),
];

/// Tables of people: a bare name there is a person's.
const PEOPLE: Words = "user users person persons people customer customers contact contacts member members employee employees attendee \
    attendees patient patients usuario usuarios cliente clientes persona personas usuari usuaris client clients \
    student students author authors profile profiles lead leads guest guests passenger passengers subscriber \
    subscribers recipient recipients teacher teachers applicant applicants candidate candidates participant \
    participants address addresses card cards alumno alumnos alumne alumnes paciente pacientes empleado empleados \
    socio socios directions direccion direcciones donor donors voter voters";

/// Words at a table's end that say nothing of what is in it.
const HOLLOW: Words = "entity data info detail details record records history archive tbl table";

/// The words of a table's name, without those at its end that say nothing.
pub fn of_table(name: &str) -> Vec<String> {
    let mut words = words(name);
    while words.len() > 1 && last(&words, HOLLOW) {
        words.pop();
    }
    words
}

/// Whether a table is one of people: by its last word, `customer_groups` are none.
pub fn is_of_people(table: &str) -> bool {
    let words = of_table(table);
    // `invoiceaddress`, `superuser`: some write words together.
    let joined = |word: &String| PEOPLE.split_whitespace().any(|p| p.len() > 3 && word.ends_with(p));
    last(&words, PEOPLE) || words.last().is_some_and(joined)
}

/// Tables of things that a program or a shop has, whose names are no persons'.
const THINGS: Words = "product products category categories role roles permission permissions tag tags country countries currency \
    currencies plan plans feature features flag flags strategy strategies environment environments type types \
    variant variants collection collections language languages locale locales quota quotas unit units status \
    statuses tax taxes rate rates warehouse warehouses channel channels zone zones state states option options \
    attribute attributes scope scopes item items menu menus taxon taxons taxonomy taxonomies release";

/// Words at the end of what names a thing.
const NAMING: Words = "name names title label codename nombre nom titulo titol";

/// Last words of what is a setting or a state of a program, whatever the table.
const PLAIN: Words = "status type kind locale lang language currency timezone tz mime mimetype sku country format version \
    provider algorithm algo theme icon color colour template method protocol scheme role model codename encoding \
    direction visibility strategy environment brand";

/// Last words of text that somebody wrote.
pub const FREE: Words = "note notes comment comments remark remarks message messages body description memo reason feedback subject answer \
    answers text content excerpt summary observaciones observacions nota notas comentario comentarios comentari \
    comentaris mensaje missatge details caption";

/// Why text of a name is a program's own and no person's. `None`: it may be anything.
pub fn plain(table: &str, words: &[String]) -> Option<&'static str> {
    if last(words, PLAIN) {
        return Some("by its name a state or a setting of the program");
    }
    // `name_i18n`, `title_en`.
    let bare: Vec<&str> = words.iter().map(String::as_str).filter(|w| w.len() > 2).collect();
    let naming = bare.iter().all(|w| has(NAMING, w) || has("internal public short slug", w));
    let names = (naming && !bare.is_empty()) || bare == ["slug"];
    (names && last(&of_table(table), THINGS)).then_some("by its name what a thing is called")
}

/// Words of tables in which a code, a key or a number is as good as money.
const WORTH: Words = "voucher coupon giftcard giftcards apikey promocode promo invit licen vouchercode";

/// Whether text of a table is a secret by the table's name: the code of a voucher, the key of a licence.
pub fn is_worth_money(table: &str, column: &[String]) -> bool {
    let words = of_table(table);
    let joined = words.concat();
    let stems =
        WORTH.split_whitespace().any(|stem| joined.contains(stem)) || (any(&words, "api gift") && any(&words, "key keys card"));
    stems && last(column, "code codes key number secret value pin serial hash")
}

/// Last words of what tells which value stands beside it.
const KEYS: Words = "key name attribute property setting field param parameter option metric";

/// Whether a column's name is that of values of many kinds, and which of the table's columns tells the kind.
pub fn told_by<'a>(column: &[String], others: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let value = last(column, "value values val valor") && column.len() < 3;
    value.then(|| others.into_iter().find(|other| last(&words(other), KEYS))).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_style_are_taken_apart() {
        assert_eq!(words("lastName2"), ["last", "name"]);
        assert_eq!(words("customer_EMAILAddress"), ["customer", "email", "address"]);
        assert_eq!(words("DIRECCIÓN"), ["direccion"]);
    }

    #[test]
    fn of_several_words_the_one_that_says_most_counts() {
        for (name, looks) in [
            ("attendee_email", FakeKind::Email),
            ("attendee", FakeKind::FullName),
            ("address_zip", FakeKind::Postcode),
            ("ip_address", FakeKind::Ip),
            ("invoice_address_street", FakeKind::Street),
            ("postal_address", FakeKind::Street),
        ] {
            assert_eq!(look(&words(name)), Some(Look::Fake(looks)), "{name}");
        }
    }

    #[test]
    fn a_token_is_a_secret_and_what_is_said_of_one_is_not() {
        for (name, looks) in [
            ("token", true),
            ("notifications_token", true),
            ("email_token", true),
            ("token_name", false),
            ("tokenCount", false),
            ("password_changed_at", false),
        ] {
            assert_eq!(look(&words(name)) == Some(Look::Secret), looks, "{name}");
        }
    }

    #[test]
    fn what_is_said_about_a_thing_is_not_the_thing() {
        for name in
            ["mail_subject", "email_verified", "email_sent_at", "address_type", "login_attempts", "phone_country", "card_brand"]
        {
            assert_eq!(look(&words(name)), None, "{name}");
        }
        assert_eq!(look(&words("bic")), Some(Look::Bank));
    }
}
