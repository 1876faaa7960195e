"""Languages and scripts: what a letter, a code, a file name and a text tell, and when they do not tell."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_mt.data.writing import (
    expected_scripts,
    guess_language,
    language_code,
    language_of_name,
    main_scripts,
    other_language,
    scripts,
)

# A few sentences of each language whose words are known, as a plain corpus has them.
TEXTS = {
    "en": "The neighbour's dog does not want to eat, and the girl says that it is a pity. We are on the way to town.",
    "de": "Der Hund des Nachbarn will nicht fressen, und das Mädchen sagt, das ist schade. Ich gehe mit Freunden.",
    "fr": "Le chien du voisin ne veut pas manger et la fille dit que c'est dommage. Les amis sont dans une boutique.",
    "es": "El perro de mi vecino no quiere comer, y la niña dice que es una lástima. Los amigos van por la tarde.",
    "it": "Il cane del vicino non vuole mangiare e la bambina dice che è un peccato. Di sera sono con gli amici.",
    "pt": "O cachorro do vizinho não quer comer e a menina diz que é uma pena. Vamos com os amigos para o mercado.",
    "ca": "El gos del veí no vol menjar i la nena diu que és una llàstima. Els amics van amb la mare per comprar pa.",
    "nl": "De hond van de buurman wil niet eten en het meisje zegt dat het jammer is. Ik ga met een vriend op reis.",
    "sv": "Grannens hund vill inte äta och flickan säger att det är synd. Jag är på torget för att köpa en tårta.",
    "da": "Naboens hund vil ikke spise, og pigen siger, at det er synd. Jeg er af og til på torvet for at købe ost.",
    "no": "Naboens hund vil ikke spise, og jenta sier at det er synd. Jeg har av og til vært på torget for å handle.",
    "fi": "Naapurin koira ei halua syödä, ja tyttö sanoo että se on sääli. Hän oli kotona, mutta nyt hän on täällä.",
    "et": "Naabri koer ei taha süüa ja tüdruk ütleb, et see on kahju. Ta oli kodus, aga nüüd on ta ka siin. Mis see?",
    "lv": "Kaimiņa suns negrib ēst, un meitene saka, ka tas ir žēl. Viņš nav mājās, bet es eju uz tirgu ar draugu.",
    "lt": "Kaimyno šuo nenori ėsti, ir mergaitė sako, kad tai yra gaila. Jis buvo namie, bet aš einu į turgų su jais.",
    "pl": "Pies sąsiada nie chce jeść, a dziewczynka mówi, że to jest szkoda. Nie wiem, jak się to robi na wsi.",
    "cs": "Sousedův pes nechce jíst a holčička říká, že je to škoda. Nevím, jak se to dělá, ale byl jsem v zahradě.",
    "sk": "Susedov pes nechce jesť a dievčatko hovorí, že je to škoda. Neviem, ako sa to robí, ale bol som v záhrade.",
    "sl": "Sosedov pes noče jesti in deklica pravi, da je to škoda. Ne vem, ki bi se na to ne jezil, pa ne sem.",
    "hr": "Susjedov pas ne želi jesti i djevojčica kaže da je to šteta. Ne znam što se radi, bio sam na selu za nju.",
    "hu": "A szomszéd kutyája nem akar enni, és a kislány azt mondja, hogy ez nagy kár. Az asztal is itt van, meg egy.",
    "ro": "Câinele vecinului nu vrea să mănânce și fetița spune că este păcat. Mergem la piață cu o prietenă din oraș.",
    "tr": "Komşunun köpeği yemek istemiyor ve kız bu çok yazık diyor. Ben de bir pasta için gittim ama ne var ne yok.",
    "vi": "Con chó của người hàng xóm không muốn ăn và cô bé nói đó là một điều đáng tiếc. Tôi ở trong thành phố này.",
    "id": "Anjing tetangga tidak mau makan dan gadis itu berkata bahwa ini sayang. Saya pergi ke pasar yang di kota.",
    "ru": "Собака соседа не хочет есть, и девочка говорит, что это жаль. Я не знаю, как он это делает, но я рад.",
    "uk": "Собака сусіда не хоче їсти, і дівчинка каже, що це шкода. Я йду на ринок з друзями, та не знаю, як це.",
    "be": "Сабака суседа не хоча есці, і дзяўчынка кажа, што гэта шкада. Я іду да сяброў у горад, ён не ведае.",
    "bg": "Кучето на съседа не иска да яде и момичето казва, че това е жалко. Той ще се върне от града за тортата.",
    "mk": "Кучето на соседот не сака да јаде и девојчето вели дека тоа е штета. Тој ќе се врати од градот со торта.",
    "sr": "Комшијин пас не жели да једе и девојчица каже да је то штета. Не знам што се ради, био сам у кући за њих.",
    "el": "Ο σκύλος του γείτονα δεν θέλει να φάει.",
    "hy": "Հարևանի շունը չի ուզում ուտել։",
    "ka": "მეზობლის ძაღლს არ უნდა ჭამა.",
    "he": "הכלב של השכן לא רוצה לאכול, והילדה אומרת כי זה חבל. אני הולך אל השוק וגם הוא, את יודעת על מה.",
    "ar": "البنت تقول إن هذا مؤسف. نذهب إلى السوق في الصباح من البيت. ما هو؟ على الطاولة كتاب عن الطعام.",
    "fa": "سگ همسایه غذا را دوست ندارد و دختر می‌گوید که این حیف است. من از خانه در شهر کتاب را برای او آوردم.",
    "ur": "پڑوسی کا کتا کھانا نہیں چاہتا اور لڑکی نے کہا کہ یہ افسوس کی بات ہے۔ گھر میں کتاب میز پر ہے۔",
    "hi": "पड़ोसी का कुत्ता खाना नहीं चाहता और लड़की कहती है कि यह दुख की बात है। किताब घर में मेज़ पर है।",
    "mr": "शेजाऱ्याचा कुत्रा खात नाही आणि मुलगी म्हणते की हे वाईट आहे. मी बाजारात जातो व ते घरी आहेत.",
    "ta": "பக்கத்து வீட்டு நாய் சாப்பிட விரும்பவில்லை.",
    "th": "สุนัขของเพื่อนบ้านไม่อยากกินอาหาร",
    "ko": "이웃집 개가 먹으려고 하지 않아서 소녀는 안타깝다고 말했다.",
    "ja": "隣の犬は食べたがらないので、女の子は残念だと言いました。",
    "zh": "邻居的狗不想吃东西，女孩说这真可惜。我们和朋友去市场买蛋糕。",
}


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("", {}),
        ("12 + 3 = 15 €, ¿?", {}),
        ("Größe", {"LATIN": 5}),
        ("Straße Москва", {"LATIN": 6, "CYRILLIC": 6}),
        ("東京タワーへ", {"CJK": 2, "KATAKANA": 3, "HIRAGANA": 1}),
        ("人々", {"CJK": 2}),
        ("ＣＤ ｶﾅ ﾡ", {"LATIN": 2, "KATAKANA": 2, "HANGUL": 1}),  # full and half width
        ("한국 ελ עב", {"HANGUL": 2, "GREEK": 2, "HEBREW": 2}),
        ("5 µm, 1ª, ℓ, 𝐀", {"LATIN": 2}),  # micro sign and mathematical letters have no script
        ("नमस्ते", {"DEVANAGARI": 4}),  # vowel signs are marks
    ],
)
def test_letters_are_counted_by_script(text: str, counts: dict[str, int]) -> None:
    assert scripts(text) == counts


@given(st.text())
def test_no_more_letters_are_counted_than_there_are(text: str) -> None:
    letters = sum(unicodedata.category(character).startswith("L") for character in text)
    assert scripts(text).total() <= letters
    assert scripts(text) == scripts(text[::-1])


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("de", "LATIN"),
        ("deu", "LATIN"),
        ("pt-BR", "LATIN"),
        ("ru", "CYRILLIC"),
        ("sr", "CYRILLIC LATIN"),
        ("sr-Latn", "LATIN"),
        ("srp_Cyrl", "CYRILLIC"),
        ("ja", "CJK HIRAGANA KATAKANA"),
        ("zh_TW", "CJK BOPOMOFO"),
        ("zh-Hans", "CJK BOPOMOFO"),
        ("cmn", "CJK BOPOMOFO"),
        ("ko", "CJK HANGUL"),
        ("EL", "GREEK"),
        ("am", "ETHIOPIC"),
    ],
)
def test_scripts_expected_of_a_language(language: str, expected: str) -> None:
    assert expected_scripts(language) == frozenset(expected.split())


@pytest.mark.parametrize("language", ["xx", "src", "", "english", "x-ja"])
def test_an_unknown_code_has_no_scripts(language: str) -> None:
    assert expected_scripts(language) is None
    assert language_code(language) is None


def test_scripts_that_are_hardly_used_are_not_the_main_ones() -> None:
    lines = ["слово " * 20] * 99 + ["word"]  # 9,900 Cyrillic letters, 4 Latin ones
    assert main_scripts(lines) == {"CYRILLIC"}
    assert main_scripts([*lines, "word " * 50]) == {"CYRILLIC", "LATIN"}
    assert main_scripts(["1", ""]) == frozenset()


@pytest.mark.parametrize("language", TEXTS)
def test_a_text_tells_its_language(language: str) -> None:
    assert guess_language(TEXTS[language].split(". ")) == language
    assert other_language(language, [TEXTS[language]]) is None


@pytest.mark.parametrize("text", ["", "1 2 3", "Hi!", "mako bilu tofi rane suda gipe lomu veka nuri pado " * 9])
def test_a_text_of_no_known_words_tells_nothing(text: str) -> None:
    assert guess_language([text]) is None


def test_two_languages_in_turn_tell_nothing() -> None:
    assert guess_language([TEXTS["de"], TEXTS["en"]] * 5) is None


@pytest.mark.parametrize(
    ("named", "written", "other"),
    [
        ("de", "en", "en"),
        ("deu", "en", "en"),
        ("ja", "en", "en"),
        ("en", "ja", "ja"),
        ("gl", "ru", "ru"),  # by the script
        ("gl", "pt", None),  # whose words are not known: it may be
        ("sr", "hr", None),
        ("nb", "no", None),
        ("yue", "zh", None),
        ("xx", "en", None),
    ],
)
def test_a_text_in_another_language_is_told(named: str, written: str, other: str | None) -> None:
    assert other_language(named, [TEXTS[written]]) == other


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("train.de", "de"),
        ("corpus.de-en.de", "de"),
        ("OpenSubtitles.en-ja.ja", "ja"),
        ("news_de.txt", "de"),
        ("train-de.txt", "de"),
        ("de.txt.gz", "de"),
        ("europarl.v7.deu", "de"),
        ("train.en.xz", "en"),
        ("train.tok.en", "en"),
        ("train.DE", "de"),
        ("train.pt-BR", "pt"),
        ("train.zh_TW", "zh"),
        ("news.zh-Hans.txt", "zh"),
        ("data/de/train.txt", "de"),
        ("data/de/train.en", "en"),
        ("train.txt", None),
        ("data.tsv", None),
        ("my.src", None),
        ("corpus.de-en", None),
        ("made.xx", None),
        ("", None),
    ],
)
def test_the_name_of_a_file_tells_its_language(name: str, language: str | None) -> None:
    assert language_of_name(name) == language
