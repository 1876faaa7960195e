"""The words of the corpus: English and German forms with their meaning classes."""

from __future__ import annotations

from dataclasses import dataclass

VOWELS = "aeiou"


@dataclass(frozen=True)
class Noun:
    """A noun: English singular and plural, German forms, gender and classes."""

    en: str
    en_plural: str
    de: str
    de_plural: str
    gender: str  # "m", "f" or "n"
    weak: bool  # takes -n outside the nominative: der Junge, den Jungen
    mass: bool  # no plural, no indefinite article: water, milk
    cls: str
    pronoun: str  # the English pronoun that takes it up; "" if none is natural


@dataclass(frozen=True)
class Adjective:
    """An adjective with its comparatives and the noun classes it suits."""

    en: str
    de: str
    en_comparative: str
    de_comparative: str
    classes: frozenset[str]


@dataclass(frozen=True)
class Verb:
    """A verb: principal parts in both languages and its frame of complements."""

    en: str
    en_past: str
    en_participle: str
    particle: str  # English "up" in "picks up"
    de: str  # the infinitive without the separable prefix
    third: str  # er/sie/es form
    participle: str  # without the separable prefix
    prefix: str  # German "an" in "ruft an"
    aux: str  # "haben" or "sein"
    subject: frozenset[str]
    frame: tuple[str, ...]
    places: tuple[str, ...]


# English | German, gender, plural. A German plural "-" marks a mass noun, a
# gender "w" a weak masculine. English plurals are given where irregular.
NOUNS = """
man: teacher|Lehrer m Lehrer; doctor|Arzt m Ärzte; neighbour|Nachbar w Nachbarn; boy|Junge w Jungen
man: man/men|Mann m Männer; student|Student w Studenten; farmer|Bauer w Bauern; guest|Gast m Gäste
man: policeman/policemen|Polizist w Polizisten; pilot|Pilot w Piloten; colleague|Kollege w Kollegen
man: painter|Maler m Maler; mechanic|Mechaniker m Mechaniker; customer|Kunde w Kunden
man: engineer|Ingenieur m Ingenieure; tourist|Tourist w Touristen; gardener|Gärtner m Gärtner
man: waiter|Kellner m Kellner; baker|Bäcker m Bäcker; driver|Fahrer m Fahrer
kin: brother|Bruder m Brüder; father|Vater m Väter; uncle|Onkel m Onkel; son|Sohn m Söhne
kin: grandfather|Großvater m Großväter; friend|Freund m Freunde
woman: woman/women|Frau f Frauen; singer|Sängerin f Sängerinnen
woman: nurse|Krankenschwester f Krankenschwestern
woman: saleswoman/saleswomen|Verkäuferin f Verkäuferinnen
woman: actress|Schauspielerin f Schauspielerinnen; author|Autorin f Autorinnen
woman: dancer|Tänzerin f Tänzerinnen; journalist|Journalistin f Journalistinnen
woman: lawyer|Anwältin f Anwältinnen; scientist|Forscherin f Forscherinnen
kinf: mother|Mutter f Mütter; sister|Schwester f Schwestern; daughter|Tochter f Töchter
kinf: aunt|Tante f Tanten; grandmother|Großmutter f Großmütter
child: child/children|Kind n Kinder; girl|Mädchen n Mädchen
animal: cat|Katze f Katzen; horse|Pferd n Pferde; cow|Kuh f Kühe; bird|Vogel m Vögel
animal: pig|Schwein n Schweine; goat|Ziege f Ziegen; mouse/mice|Maus f Mäuse; dog|Hund m Hunde
animal: rabbit|Kaninchen n Kaninchen; duck|Ente f Enten; donkey|Esel m Esel; fox|Fuchs m Füchse
animal: bear|Bär w Bären; snake|Schlange f Schlangen
fruit: apple|Apfel m Äpfel; pear|Birne f Birnen; banana|Banane f Bananen; cherry|Kirsche f Kirschen
fruit: strawberry|Erdbeere f Erdbeeren; orange|Orange f Orangen
meal: soup|Suppe f Suppen; potato|Kartoffel f Kartoffeln; egg|Ei n Eier; mushroom|Pilz m Pilze
meal: sausage|Wurst f Würste; carrot|Karotte f Karotten
pastry: cake|Kuchen m Kuchen; bread|Brot n -; pizza|Pizza f Pizzas; biscuit|Keks m Kekse
meal: salad|Salat m Salate; tomato|Tomate f Tomaten
drink: water|Wasser n -; milk|Milch f -; coffee|Kaffee m -; tea|Tee m -; juice|Saft m -
drink: wine|Wein m -; lemonade|Limonade f -; beer|Bier n -
print: book|Buch n Bücher; newspaper|Zeitung f Zeitungen; magazine|Zeitschrift f Zeitschriften
text: report|Bericht m Berichte; poem|Gedicht n Gedichte; message|Nachricht f Nachrichten
text: novel|Roman m Romane; article|Artikel m Artikel; story|Geschichte f Geschichten
post: letter|Brief m Briefe; postcard|Postkarte f Postkarten
paper: contract|Vertrag m Verträge; document|Dokument n Dokumente; invoice|Rechnung f Rechnungen
bill: ticket|Fahrkarte f Fahrkarten
tale: joke|Witz m Witze; fairy tale|Märchen n Märchen
vehicle: car|Auto n Autos; bicycle|Fahrrad n Fahrräder; lorry|Lastwagen m Lastwagen
vehicle: motorcycle|Motorrad n Motorräder; boat|Boot n Boote
transit: bus|Bus m Busse; train|Zug m Züge; tram|Straßenbahn f Straßenbahnen; ship|Schiff n Schiffe
surface: table|Tisch m Tische; carpet|Teppich m Teppiche
chair: chair|Stuhl m Stühle; bed|Bett n Betten; sofa|Sofa n Sofas
chair: armchair|Sessel m Sessel; bench|Bank f Bänke
furniture: wardrobe|Schrank m Schränke; shelf/shelves|Regal n Regale; mirror|Spiegel m Spiegel
furniture: lamp|Lampe f Lampen
small: knife/knives|Messer n Messer; spoon|Löffel m Löffel; fork|Gabel f Gabeln; pen|Stift m Stifte
small: key|Schlüssel m Schlüssel; umbrella|Regenschirm m Regenschirme; ball|Ball m Bälle
small: photo|Foto n Fotos; candle|Kerze f Kerzen
small: hammer|Hammer m Hämmer; rope|Seil n Seile; saw|Säge f Sägen; doll|Puppe f Puppen
container: bag|Tasche f Taschen; suitcase|Koffer m Koffer; basket|Korb m Körbe; box|Kiste f Kisten
dish: cup|Tasse f Tassen; glass|Glas n Gläser; bottle|Flasche f Flaschen; plate|Teller m Teller
dish: bowl|Schüssel f Schüsseln; bucket|Eimer m Eimer
present: picture|Bild n Bilder; parcel|Paket n Pakete; gift|Geschenk n Geschenke
clothes: shirt|Hemd n Hemden; dress|Kleid n Kleider; coat|Mantel m Mäntel; shoe|Schuh m Schuhe
clothes: hat|Hut m Hüte; jacket|Jacke f Jacken; skirt|Rock m Röcke; sock|Socke f Socken
clothes: glove|Handschuh m Handschuhe; scarf/scarves|Schal m Schals; jumper|Pullover m Pullover
clothes: boot|Stiefel m Stiefel; cap|Mütze f Mützen; blouse|Bluse f Blusen
instrument: piano|Klavier n Klaviere; guitar|Gitarre f Gitarren; violin|Geige f Geigen
instrument: flute|Flöte f Flöten; trumpet|Trompete f Trompeten; drum|Trommel f Trommeln
device: clock|Uhr f Uhren; phone|Telefon n Telefone; computer|Computer m Computer
device: radio|Radio n Radios; camera|Kamera f Kameras; television|Fernseher m Fernseher
device: machine|Maschine f Maschinen; oven|Ofen m Öfen; printer|Drucker m Drucker
opening: door|Tür f Türen; window|Fenster n Fenster; gate|Tor n Tore
room: kitchen|Küche f Küchen; cellar|Keller m Keller; bathroom|Badezimmer n Badezimmer
room: bedroom|Schlafzimmer n Schlafzimmer; office|Büro n Büros; garage|Garage f Garagen
public: school|Schule f Schulen; museum|Museum n Museen; restaurant|Restaurant n Restaurants
public: library|Bibliothek f Bibliotheken; hospital|Krankenhaus n Krankenhäuser
public: hotel|Hotel n Hotels
public: church|Kirche f Kirchen; factory|Fabrik f Fabriken; theatre|Theater n Theater
public: cinema|Kino n Kinos; bakery|Bäckerei f Bäckereien; shop|Laden m Läden
house: house|Haus n Häuser; castle|Schloss n Schlösser
outdoor: garden|Garten m Gärten; park|Park m Parks; forest|Wald m Wälder; village|Dorf n Dörfer
outdoor: city|Stadt f Städte; valley|Tal n Täler
at: station|Bahnhof m Bahnhöfe; lake|See m Seen; river|Fluss m Flüsse; beach|Strand m Strände
at: harbour|Hafen m Häfen; airport|Flughafen m Flughäfen
on: bridge|Brücke f Brücken; mountain|Berg m Berge; roof|Dach n Dächer; balcony|Balkon m Balkone
on: street|Straße f Straßen; island|Insel f Inseln; tower|Turm m Türme
event: concert|Konzert n Konzerte; meeting|Besprechung f Besprechungen; exam|Prüfung f Prüfungen
event: party|Feier f Feiern; wedding|Hochzeit f Hochzeiten; game|Spiel n Spiele
event: trip|Ausflug m Ausflüge; performance|Aufführung f Aufführungen
idea: problem|Problem n Probleme; question|Frage f Fragen; idea|Idee f Ideen; plan|Plan m Pläne
idea: mistake|Fehler m Fehler; rule|Regel f Regeln; sentence|Satz m Sätze; task|Aufgabe f Aufgaben
song: song|Lied n Lieder; melody|Melodie f Melodien
plant: tree|Baum m Bäume; flower|Blume f Blumen; rose|Rose f Rosen; bush|Busch m Büsche
"""

PERSON = "man kin woman kinf child"
GROUPS = {
    "person": PERSON,
    "kinship": "kin kinf",
    "reader": "print text post paper tale",
    "food": "fruit meal pastry",
    "goods": "print vehicle flat furniture small container dish clothes instrument device present house",
    "handy": "print post small container dish clothes present",
    "gift": "print small clothes present instrument",
    "flat": "surface chair",
    "seat": "chair",
    "repair": "vehicle device instrument",
    "building": "public house",
    "thing": "print text vehicle flat furniture small container dish clothes instrument device present",
}

ADJECTIVES = """
person animal: old|alt; young|jung; clever|klug; hungry|hungrig; tired|müde; strong|stark; lazy|faul
person animal: curious|neugierig
person: friendly|freundlich; happy|glücklich; sad|traurig; ill|krank; poor|arm; rich|reich
person: polite|höflich; brave|mutig; nervous|nervös; patient|geduldig; proud|stolz; strict|streng
person building: famous|berühmt
thing house public opening: new|neu; old|alt; modern|modern
goods animal opening room building outdoor at on plant pastry: big|groß; small|klein
clothes present instrument house outdoor at on plant song dish room public: beautiful|schön
goods: expensive|teuer; cheap|billig
animal vehicle: fast|schnell; slow|langsam
container present furniture device flat: heavy|schwer
clothes container dish flat vehicle opening: red|rot; blue|blau; green|grün; yellow|gelb
clothes container animal flat vehicle: black|schwarz; white|weiß; brown|braun; grey|grau
device vehicle opening instrument: broken|kaputt
room public outdoor on at house: quiet|ruhig; dark|dunkel
clothes dish vehicle room opening flat: clean|sauber; dirty|schmutzig
text clothes event tale song: long|lang; short|kurz
meal drink: warm|warm; cold|kalt; hot|heiß
food: fresh|frisch; delicious|lecker
fruit: sweet|süß; sour|sauer
text print event song tale: interesting|interessant; boring|langweilig; funny|lustig
idea event text paper: important|wichtig
idea: difficult|schwierig; easy|einfach; strange|seltsam
container dish public: empty|leer
small device: useful|nützlich
animal at on: dangerous|gefährlich
print present instrument clothes furniture: valuable|wertvoll
clothes room: comfortable|bequem
plant: wild|wild
"""
UMLAUT = {"alt", "jung", "groß", "klug", "stark", "arm", "lang", "kurz", "warm", "kalt", "schwarz"}

# English forms | German forms | subject | complements | places.  English past
# forms and German third person and participle are given where irregular; "+"
# parts a separable prefix, "*" marks the auxiliary sein.
VERBS = """
read read read|lesen liest gelesen|person|acc:reader|room outdoor public city at
write wrote written|schreiben schreibt geschrieben|person|acc:text,post|room city
buy bought bought|kaufen|person|acc:goods,food|city
sell sold sold|verkaufen|person|acc:goods|city
eat ate eaten|essen isst gegessen|person,animal|acc:food|outdoor room
drink drank drunk|trinken trinkt getrunken|person|acc:drink|room outdoor city
cook|kochen|person|acc:meal|room
bake|backen backt gebacken|person|acc:pastry|room
find found found|finden findet gefunden|person|acc:small,container,clothes|room outdoor at on
lose lost lost|verlieren verliert verloren|person|acc:small,clothes,container|outdoor at city
look_for|suchen|person|acc:small,clothes,animal,person|outdoor room at
carry|tragen trägt getragen|person|acc:container,present|
put_on put_on put_on|an+ziehen zieht gezogen|person|acc:clothes|room
take_off took_off taken_off|aus+ziehen zieht gezogen|person|acc:clothes|room
try_on tried_on tried_on|an+probieren|person|acc:clothes|city
wash|waschen wäscht gewaschen|person|acc:clothes,dish,vehicle|
clean|putzen|person|acc:opening,room,dish,instrument|
draw drew drawn|zeichnen|person|acc:animal,plant,house|outdoor room
repair|reparieren|man,woman,kin|acc:repair|room
play|spielen|person|acc:instrument|room city
play|spielen|child,kin|loc|outdoor room on at
hear heard heard|hören|person|acc:song,animal,instrument|outdoor
visit|besuchen|person|acc:person,public|city
meet met met|treffen trifft getroffen|person|acc:person|outdoor at public city
greet|grüßen|person|acc:person|at outdoor
love|lieben|person|acc:person,animal,song|
know knew known|kennen kennt gekannt|person|acc:person,song|
see saw seen|sehen sieht gesehen|person,animal|acc:animal,person,vehicle|outdoor at on
invite|ein+laden lädt geladen|person|acc:person|
call|an+rufen ruft gerufen|person|acc:person|
pick_up|ab+holen|person|acc:person,present|at
wake woke woken|wecken|person|acc:person|
ask|fragen|person|acc:person|
forget forgot forgotten|vergessen vergisst vergessen|person|acc:small,idea,container|
understand understood understood|verstehen versteht verstanden|person|acc:idea,text|
open|öffnen|person|acc:opening,container,post|
close|schließen schließt geschlossen|person|acc:opening,container|
turn_on|ein+schalten|person|acc:device|room
turn_off|aus+schalten|person|acc:device|room
fill|füllen|person|acc:container,dish|room
watch|beobachten|person,animal|acc:animal|outdoor at on
feed fed fed|füttern|person|acc:animal|outdoor
catch caught caught|fangen fängt gefangen|child,man|acc:animal|outdoor
plant|pflanzen|person|acc:plant|outdoor
water|gießen gießt gegossen|person|acc:plant|
pick|pflücken|person|acc:fruit|outdoor
build built built|bauen|man,woman,kin|acc:house,vehicle|city outdoor
sing sang sung|singen singt gesungen|person|acc:song|public city
sign|unterschreiben unterschreibt unterschrieben|man,woman|acc:paper|city
translate|übersetzen übersetzt übersetzt|man,woman|acc:text,post|room
pack|packen|person|acc:container|room
pay_for paid_for paid_for|bezahlen|person|acc:bill,meal,small|public
need|brauchen|person|acc:goods|
use|benutzen|person|acc:device,small,vehicle|room
order|bestellen|person|acc:food,drink|public city
prepare|vor+bereiten|person|acc:meal,event|
bring_along brought_along brought_along|mit+bringen bringt gebracht|person|acc:gift,pastry|
borrow|aus+leihen leiht geliehen|person|acc:print,vehicle|city
solve|lösen|person|acc:idea|
discuss|besprechen bespricht besprochen|person|acc:idea,text,paper|public
check|prüfen|man,woman|acc:paper,device,vehicle|
photograph|fotografieren|person|acc:building,animal,plant|outdoor
record|auf+nehmen nimmt genommen|man,woman|acc:song|city
give gave given|geben gibt gegeben|person|dat:person acc:gift,food|at outdoor
show showed shown|zeigen|person|dat:person acc:goods|city room
send sent sent|schicken|person|dat:person acc:post,present,text|
lend lent lent|leihen leiht geliehen|person|dat:person acc:handy,vehicle|
bring brought brought|bringen bringt gebracht|person|dat:person acc:drink,food,handy|outdoor
tell told told|erzählen|person|dat:person acc:tale|room outdoor
explain|erklären|person|acc:idea to:person|
describe|beschreiben beschreibt beschrieben|person|acc:house,animal,idea to:person|
recommend|empfehlen empfiehlt empfohlen|person|acc:print,public,meal to:person|
help|helfen hilft geholfen|person|dat:person|room outdoor city at
thank|danken|person|dat:person|
follow|folgen*|person,animal|dat:person|
answer|antworten|person|dat:person|
trust|vertrauen|person|dat:person|
congratulate|gratulieren|person|dat:person|at
listen_to|zu+hören|person|dat:person|
belong_to|gehören|thing|dat:person|
wait_for|warten|person|auf+acc:person,transit|at
think_of thought_of thought_of|denken denkt gedacht|person|an+acc:person,event|
talk_about|sprechen spricht gesprochen|person|über+acc:text,idea,event|room public
dream_of|träumen|person|von+dat:animal,person,vehicle|
take_part_in took_part_in taken_part_in|teil+nehmen nimmt genommen|person|an+dat:event|
sleep slept slept|schlafen schläft geschlafen|person,animal|loc|room outdoor public
work|arbeiten|person|loc|room public outdoor city on
laugh|lachen|person||public room
cry cried cried|weinen|person||room
dance|tanzen|person||on outdoor city
sit sat sat|sitzen sitzt gesessen|person,animal|on:seat|
sit sat sat|sitzen sitzt gesessen|person|loc|room outdoor at on
lie lay lain|liegen liegt gelegen|handy|on:flat,furniture|
lie lay lain|liegen liegt gelegen|animal|on:seat,vehicle|
stand stood stood|stehen steht gestanden|person|loc|at on outdoor
stand stood stood|stehen steht gestanden|flat,furniture,vehicle|loc|room outdoor
put put put|legen|person|acc:print,small,clothes onto:flat,furniture|
place|stellen|person|acc:dish,container onto:flat|
jump|springen springt gesprungen*|person,animal|onto:flat|
live|wohnen|person|loc|city house
stay|bleiben bleibt geblieben*|person|loc|room public city at
go went gone|gehen geht gegangen*|person|dir|room public outdoor at on
run ran run|laufen läuft gelaufen*|person,animal|dir|room outdoor at on
drive drove driven|fahren fährt gefahren*|person|dir|city at outdoor
travel travelled travelled|reisen*|person|dir|city
fly flew flown|fliegen fliegt geflogen*|man,woman,kin|dir|city
come came come|kommen kommt gekommen*|person|from|city room outdoor public at
return|zurück+kommen kommt gekommen*|person|from|city public outdoor
arrive|an+kommen kommt gekommen*|person,transit|loc|city at
depart|ab+fahren fährt gefahren*|transit||at
stop stopped stopped|halten hält gehalten|transit,vehicle|loc|at on city
get_up got_up got_up|auf+stehen steht gestanden*|person||
wake_up woke_up woken_up|auf+wachen*|person,animal||
fall_asleep fell_asleep fallen_asleep|ein+schlafen schläft geschlafen*|person,animal|loc|room
begin began begun|beginnen beginnt begonnen|event||
end|enden|event||
take_place took_place taken_place|statt+finden findet gefunden|event|loc|city public outdoor
"""

NAMES_M = "Paul Peter Martin Stefan Jan Oliver Daniel Simon David Leon Anton Karl Emil Otto Tim"
NAMES_F = "Anna Maria Julia Laura Sarah Lena Eva Clara Nina Paula Emma Sophie Lisa Marie Ida"
CITIES = [
    ("Berlin", "Berlin"),
    ("Hamburg", "Hamburg"),
    ("Munich", "München"),
    ("Cologne", "Köln"),
    ("Vienna", "Wien"),
    ("Zurich", "Zürich"),
    ("Paris", "Paris"),
    ("London", "London"),
    ("Rome", "Rom"),
    ("Prague", "Prag"),
    ("Warsaw", "Warschau"),
    ("Dresden", "Dresden"),
    ("Leipzig", "Leipzig"),
    ("Bremen", "Bremen"),
    ("Lisbon", "Lissabon"),
    ("Venice", "Venedig"),
]

NUMBERS = [
    ("two", "zwei"), ("three", "drei"), ("four", "vier"), ("five", "fünf"), ("six", "sechs"),
    ("seven", "sieben"), ("eight", "acht"), ("nine", "neun"), ("ten", "zehn"), ("eleven", "elf"),
    ("twelve", "zwölf"),
]  # fmt: skip
DAYS = [
    ("Monday", "Montag"), ("Tuesday", "Dienstag"), ("Wednesday", "Mittwoch"),
    ("Thursday", "Donnerstag"), ("Friday", "Freitag"), ("Saturday", "Samstag"),
    ("Sunday", "Sonntag"),
]  # fmt: skip
MONTHS = [
    ("January", "Januar"), ("February", "Februar"), ("March", "März"), ("April", "April"),
    ("May", "Mai"), ("June", "Juni"), ("July", "Juli"), ("August", "August"),
    ("September", "September"), ("October", "Oktober"), ("November", "November"),
    ("December", "Dezember"),
]  # fmt: skip


def expand(names: str) -> frozenset[str]:
    """Replace group names by their classes."""
    out: set[str] = set()
    for name in names.replace(",", " ").split():
        out |= expand(GROUPS[name]) if name in GROUPS else {name}
    return frozenset(out)


def english_plural(noun: str) -> str:
    """Form the regular English plural."""
    if noun.endswith(("s", "sh", "ch", "x", "potato", "tomato")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in VOWELS:
        return noun[:-1] + "ies"
    return noun + "s"


def english_past(verb: str) -> str:
    """Form the regular English past, particle included: pick_up, picked_up."""
    head, _, rest = verb.partition("_")
    if head.endswith("y") and head[-2] not in VOWELS:
        head = head[:-1] + "i"
    past = head + ("d" if head.endswith("e") else "ed")
    return past + ("_" + rest if rest else "")


def german_stem(infinitive: str) -> str:
    """Strip the infinitive ending."""
    return infinitive[:-1] if infinitive.endswith(("ern", "eln")) else infinitive[:-2]


def needs_e(stem: str) -> bool:
    """Tell whether endings need a linking e: arbeitet, öffnet, zeichnet."""
    return stem.endswith(("t", "d", "ffn", "chn"))


def weak_forms(infinitive: str) -> tuple[str, str]:
    """Form third person and participle of a weak verb."""
    stem = german_stem(infinitive)
    third = stem + ("et" if needs_e(stem) else "t")
    bare = infinitive.endswith("ieren") or stem.startswith(("ver", "be", "er", "ge", "emp"))
    return third, third if bare else "ge" + third


def _nouns() -> list[Noun]:
    nouns = []
    for line in NOUNS.strip().splitlines():
        cls, _, entries = line.partition(": ")
        for entry in entries.split("; "):
            english, _, german = entry.partition("|")
            en, _, plural = english.partition("/")
            de, gender, de_plural = german.split()
            pronoun = {"man": "he", "kin": "he", "woman": "she", "kinf": "she", "child": ""}
            nouns.append(
                Noun(
                    en,
                    plural or english_plural(en),
                    de,
                    de_plural,
                    "m" if gender == "w" else gender,
                    gender == "w",
                    de_plural == "-",
                    cls,
                    pronoun.get(cls, "it"),
                )
            )
    return nouns


def german_comparative(adjective: str) -> str:
    """Form the comparative, with umlaut where listed: alt, älter."""
    if adjective in UMLAUT:
        for plain, umlaut in (("a", "ä"), ("o", "ö"), ("u", "ü")):
            if plain in adjective:
                adjective = adjective.replace(plain, umlaut, 1)
                break
    return inflected_stem(adjective) + ("r" if adjective.endswith("e") else "er")


def inflected_stem(adjective: str) -> str:
    """Drop the e of dunkel, teuer and sauer before an ending."""
    if adjective.endswith(("kel", "euer", "auer")):
        return adjective[:-2] + adjective[-1]
    return adjective


def english_comparative(adjective: str) -> str:
    """Form the comparative: older, bigger, heavier, more useful."""
    if adjective.endswith("y"):
        return adjective[:-1] + "ier"
    doubled = {"big": "bigger", "sad": "sadder", "red": "redder", "hot": "hotter"}
    if adjective in doubled:
        return doubled[adjective]
    if sum(c in "aeiouy" for c in adjective.rstrip("e")) <= 1 or adjective in {
        "clever", "poor", "proud", "brave", "clean", "cheap", "sweet", "sour", "quiet", "young",
        "ill", "strange",
    }:  # fmt: skip
        return adjective + ("r" if adjective.endswith("e") else "er")
    return "more " + adjective


def _adjectives() -> list[Adjective]:
    found: dict[tuple[str, str], frozenset[str]] = {}
    for line in ADJECTIVES.strip().splitlines():
        classes, _, entries = line.partition(": ")
        for entry in entries.split("; "):
            en, _, de = entry.partition("|")
            found[en, de] = found.get((en, de), frozenset()) | expand(classes)
    return [
        Adjective(en, de, english_comparative(en), german_comparative(de), classes)
        for (en, de), classes in found.items()
    ]


def _verbs() -> list[Verb]:
    verbs = []
    for line in VERBS.strip().splitlines():
        english, german, subject, frame, places = line.split("|")
        en, *en_parts = english.split()
        past, participle = en_parts or [english_past(en)] * 2
        infinitive, *de_parts = german.rstrip("*").split()
        prefix, _, base = infinitive.rpartition("+")
        third, de_participle = de_parts or weak_forms(base)
        head, _, particle = en.partition("_")
        verbs.append(
            Verb(
                head,
                past.partition("_")[0],
                participle.partition("_")[0],
                particle.replace("_", " "),
                base,
                third,
                de_participle,
                prefix,
                "sein" if german.endswith("*") else "haben",
                expand(subject),
                tuple(frame.split()),
                tuple(places.split()),
            )
        )
    return verbs


ALL_NOUNS = _nouns()
ALL_ADJECTIVES = _adjectives()
ALL_VERBS = _verbs()


def verb(en: str, subject: str = "person", frame: str = "") -> Verb:
    """Make a verb for a special construction from 'English forms|German forms'."""
    english, _, german = en.partition("|")
    base, past, participle = english.split()
    infinitive, third, de_participle = german.rstrip("*").split()
    prefix, _, stem = infinitive.rpartition("+")
    return Verb(
        base, past, participle, "", stem, third, de_participle, prefix,
        "sein" if german.endswith("*") else "haben", expand(subject), tuple(frame.split()), (),
    )  # fmt: skip
